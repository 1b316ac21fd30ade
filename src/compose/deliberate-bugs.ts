/**
 * Bugs on purpose, for the test that proves that the torture suite would find them. Only a variable of the environment
 * switches one on, and nothing but the composition knows that they exist.
 */
import type { BlobStore, BlobWriter, SealedBlob } from "../blob/blob-store.ts";
import type { TestBug } from "../config.ts";
import type { Clock } from "../lib/clock.ts";
import type { StoredRecord } from "../domain/record.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";

/** Long enough for whatever kills the node to come in between. */
const STORED_LATE_MS = 1_500;
const STALE_MS = 300;
const WAIT_MS = 10_000;

/** ack-early: says that a blob is durable, and stores it a moment later. */
export function spoilNode<Store extends BlobStore>(store: Store, bug: TestBug | null, clock: Clock): Store {
  if (bug !== "ack-early") return store;
  const later = (action: () => Promise<void>) => {
    clock.startTimer(STORED_LATE_MS, () => void action().catch(() => {}));
    return Promise.resolve();
  };
  return replaceMembers<BlobStore, Store>(store, {
    put: (blob) => {
      const copy = copyOf(blob);
      return later(() => store.put(copy, deadlineIn(clock, WAIT_MS)));
    },
    async openWriter(id, waitMs) {
      const writer = await store.openWriter(id, waitMs);
      return replaceMembers<BlobWriter, BlobWriter>(writer, {
        seal: (descriptor) => later(() => writer.seal(Uint8Array.from(descriptor))),
      });
    },
  });
}

/** stale-reads: answers with the record that this process has seen of a key a moment ago, whatever others have committed since. */
export function spoilGateway<Store extends MetadataStore>(metadata: Store, bug: TestBug | null, clock: Clock): Store {
  if (bug !== "stale-reads") return metadata;
  const seen = new Map<string, { readonly stored: StoredRecord | null; readonly atMs: number }>();
  const get: MetadataStore["get"] = async (bucket, key, deadline) => {
    const name = `${bucket}\0${key}`;
    const before = seen.get(name);
    if (before !== undefined && clock.monotonicMs() - before.atMs < STALE_MS) return before.stored;
    const stored = await metadata.get(bucket, key, deadline);
    seen.set(name, { stored, atMs: clock.monotonicMs() });
    return stored;
  };
  return replaceMembers<MetadataStore, Store>(metadata, { get });
}

/** Whoever hands the bytes over may use their memory again. */
function copyOf({ id, descriptor, cells }: SealedBlob): SealedBlob {
  return {
    id,
    descriptor: Uint8Array.from(descriptor),
    cells: cells.map(({ payload, checksum }) => ({ payload: Uint8Array.from(payload), checksum })),
  };
}

function replaceMembers<Port extends object, Whole extends Port>(whole: Whole, members: Partial<Port>): Whole {
  return new Proxy(whole, {
    get(target, name) {
      const member: unknown = Reflect.get(name in members ? members : target, name);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
}

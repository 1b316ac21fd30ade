/** KV buckets: made by whoever comes first, written by compare-and-set, listed in one round trip. */
import { JetStreamApiError, jetstream } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import { Kvm } from "@nats-io/kv";
import type { Msg } from "@nats-io/transport-node";
import { createInbox } from "@nats-io/transport-node";
import { isStoreError, StoreError } from "../domain/errors.ts";
import { AssertionError } from "../lib/assert.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import { untilServersAgree } from "./nats-ensure-stream.ts";
import type { NatsLink } from "./nats-link.ts";

/** One request. A leader that has just died answers nobody, so waiting longer for it helps less than asking again. */
const REQUEST_MS = 2_000;
const RETRY_MS = 200;

const WRONG_LAST_SEQUENCE = [10_071, 10_164];
const STATUS_END_OF_BATCH = 204;
const STATUS_NOT_FOUND = 404;

/**
 * Opens a bucket in files on all replicas of the cluster, creating it where missing; waits up to half a minute for
 * servers that have just started. Only the last value of each key is kept, and the leader answers reads: what a read
 * says may still be old, so decide by `create` and `update` with the revision read.
 * @throws {StoreError} `nats_unavailable` (retriable)
 */
export async function openKv(link: NatsLink, bucket: string): Promise<KV> {
  const buckets = new Kvm(jetstream(link.connection, { timeout: REQUEST_MS }));
  await untilServersAgree(link, `KV bucket ${bucket}`, async () => {
    // The stream lets any replica answer, for `listKv`; the handle opened below does not use that.
    await buckets.create(bucket, { replicas: link.streamReplicas, history: 1, allow_direct: true });
  });
  return await buckets.open(bucket, { allow_direct: false });
}

/** Stores `value` if the key is still at `revision`, 0 for absent or purged. The new revision, or null if it is not. */
export async function replaceKv(kv: KV, key: string, value: Uint8Array, revision: number): Promise<number | null> {
  try {
    return revision === 0 ? await kv.create(key, value) : await kv.update(key, value, revision);
  } catch (cause) {
    if (cause instanceof JetStreamApiError && WRONG_LAST_SEQUENCE.includes(cause.code)) return null;
    throw cause;
  }
}

/**
 * Repeats `work` while NATS does not answer it. Of what it sends nothing may do harm when it is done twice, or done
 * though it seemed to have failed.
 * @throws {StoreError} `nats_unavailable` (retriable) at the deadline; at once whatever `work` throws as a `StoreError`
 */
export async function untilAnswered<T>(
  link: NatsLink,
  deadline: Deadline,
  action: string,
  work: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      if (isStoreError(cause) || cause instanceof AssertionError) throw cause;
      if (remainingMs(link.clock, deadline) === 0 || link.connection.isClosed()) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new StoreError("nats_unavailable", `Cannot ${action}: NATS does not answer (${reason})`, {
          retriable: true,
          cause,
        });
      }
    }
    await link.clock.sleep(RETRY_MS);
  }
}

export type KvEntry = { readonly key: string; readonly revision: number; readonly value: Uint8Array };

/** All entries of a bucket, up to 1,024, as some replica knows them: what was written last may be missing. */
export async function listKv(link: NatsLink, bucket: string): Promise<KvEntry[]> {
  const { connection, clock } = link;
  const prefix = `$KV.${bucket}.`;
  const entries: KvEntry[] = [];
  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<void>();
  const inbox = createInbox();
  const subscription = connection.subscribe(inbox, {
    callback: (failure, message) => {
      if (failure !== null) return fail(failure);
      const status = message.headers?.code ?? 0;
      if (status === STATUS_END_OF_BATCH || status === STATUS_NOT_FOUND) return end();
      if (status !== 0) return fail(new Error(`status ${status} ${message.headers?.description ?? ""}`));
      const entry = entryOf(message, prefix);
      if (entry !== null) entries.push(entry);
    },
  });
  try {
    // The client's own call for this keeps its subscription for ever.
    const query = JSON.stringify({ multi_last: [`${prefix}>`] });
    connection.publish(`$JS.API.DIRECT.GET.KV_${bucket}`, query, { reply: inbox });
    const overdue = { atMs: clock.monotonicMs() + REQUEST_MS };
    await withDeadline(clock, overdue, ended, () => new Error(`no list within ${REQUEST_MS} ms`));
    return entries;
  } finally {
    subscription.unsubscribe();
  }
}

/** Null for what marks a deleted key. */
function entryOf(message: Msg, prefix: string): KvEntry | null {
  const { headers, data } = message;
  if (headers === undefined || headers.has("KV-Operation")) return null;
  const key = headers.last("Nats-Subject").slice(prefix.length);
  return { key, revision: Number(headers.last("Nats-Sequence")), value: data };
}

/** One write of every kind, to keys prepared for it, for a store that is expected to refuse them all. */
import { noise } from "../store.ts";
import type { Answer, StoreClient } from "../black-box/client.ts";
import { ABSENT, bytesState, KeyJournal, type KeyState } from "./journal.ts";

type Write = {
  readonly kind: string;
  /** What the key holds before; null for nothing. */
  readonly before: Buffer | null;
  /** What it holds when the write has happened after all. */
  readonly after: KeyState;
  send(client: StoreClient, target: string): Promise<Answer>;
};

export type EveryWrite = {
  readonly journals: readonly KeyJournal[];
  /** Stores what the writes are about to change. */
  prepare(client: StoreClient): Promise<void>;
  /** Sends all of them at once; what each was answered, by kind. */
  send(client: StoreClient): Promise<ReadonlyMap<string, number>>;
};

const SMALL = noise(400, 91);
const LARGE = noise(300_000, 92);
const OLD = noise(1_000, 93);
const DOCUMENT = { device_id: "d", battery_level: 1, pad: "p".repeat(30_000) };
const DOCUMENT_BODY = Buffer.from(JSON.stringify(DOCUMENT));

const WRITES: readonly Write[] = [
  put("inline", null, SMALL),
  put("inline", OLD, SMALL),
  put("replication", null, SMALL),
  put("replication", OLD, SMALL),
  put("ec", null, LARGE),
  put("ec", OLD, LARGE),
  put("field_hybrid", null, DOCUMENT_BODY),
  {
    ...{ kind: "patch", before: DOCUMENT_BODY, after: documentState({ ...DOCUMENT, battery_level: 2 }) },
    send: (client, target) => client.patch(target, '{"battery_level":2}'),
  },
  {
    ...{ kind: "delete", before: OLD, after: ABSENT },
    send: (client, target) => client.send("DELETE", target),
  },
  // Refusing these for the reason that they give needs to know what is there now.
  {
    ...{ kind: "create what is there", before: OLD, after: bytesState(OLD) },
    send: (client, target) => client.put(`${target}?strategy=inline`, SMALL, { "if-none-match": "*" }),
  },
  {
    ...{ kind: "delete what is not there", before: null, after: ABSENT },
    send: (client, target) => client.send("DELETE", target),
  },
];

/** `prefix`: of the keys, different for every call. */
export function everyWrite(prefix: string): EveryWrite {
  const writes = WRITES.map((write, index) => ({ ...write, journal: new KeyJournal(`${prefix}/${index}`) }));
  return {
    journals: writes.map(({ journal }) => journal),
    async prepare(client) {
      for (const { before, journal } of writes) {
        if (before === null) continue;
        const { status } = await client.put(`/objects/${journal.key}`, before);
        if (status !== 201) throw new Error(`${journal.key} could not be prepared: ${status}`);
        journal.acknowledge(before === DOCUMENT_BODY ? documentState(DOCUMENT) : bytesState(before));
      }
    },
    async send(client) {
      const answers = writes.map(async ({ kind, before, after, send, journal }) => {
        journal.doubt(after);
        const status = await send(client, `/objects/${journal.key}`).then((answer) => answer.status);
        return [`${kind}${before === null ? "" : " over"}`, status] as const;
      });
      return new Map(await Promise.all(answers));
    },
  };
}

function put(strategy: string, before: Buffer | null, body: Buffer): Write {
  const after = body === DOCUMENT_BODY ? documentState(DOCUMENT) : bytesState(body);
  return {
    ...{ kind: strategy, before, after },
    send: (client, target) => client.put(`${target}?strategy=${strategy}`, body),
  };
}

function documentState(value: Readonly<Record<string, unknown>>): KeyState {
  return { kind: "document", value };
}

/** The kinds of write during which a test has a gateway killed, and what may be there afterwards. */
import type { Answer, StoreClient } from "./black-box/client.ts";
import { ABSENT, bytesState, type KeyState } from "./load/journal.ts";
import { noise } from "./store.ts";
import { telemetryDocument } from "./telemetry.ts";

/** What is there when recovery is done, if nobody writes the key again. */
export type Outcome = "old" | "new" | "either";

export type GatewayWrite = {
  /** Where the gateway may die, and what becomes of the write. */
  readonly steps: readonly (readonly [step: string, outcome: Outcome])[];
  /** What the key has before; null for nothing. */
  before(key: string): Body | null;
  after(key: string): KeyState;
  send(client: StoreClient, key: string): Promise<Answer>;
};

export type Body = { readonly bytes: Buffer; readonly strategy: "inline" | "replication" | "ec" | "field_hybrid" };

/** A stripe and a bit: cells of the first are sent while the rest is still to come. */
const LARGE = noise(4_500_000, 81);
const PACKED_DOCUMENT_BYTES = 150_000;
const STREAMED_DOCUMENT_BYTES = 600_000;

/** The commit is what decides, but who finds all blobs where they belong completes the write. */
const COMMIT_STEPS = [
  ["put.intent-durable", "old"],
  ["put.quorum-durable", "new"],
  ["put.committed", "new"],
  ["put.settled", "new"],
] as const;

/** Every kind of write, streamed and packed. Small blobs are sealed as they are sent, and may so be enough for recovery. */
export const GATEWAY_WRITES: Readonly<Record<string, GatewayWrite>> = {
  "new copies": putOf(() => null, copiesOf, [
    ["put.parsed", "old"],
    ["put.encoded", "old"],
    ["put.cell-sent", "either"],
    ["put.cell-sent:2", "either"],
    ["put.cell-sent:3", "either"],
    ...COMMIT_STEPS,
  ]),
  "shards over copies": putOf(copiesOf, (key) => ({ bytes: stamped(LARGE, key), strategy: "ec" }), [
    ["put.parsed", "old"],
    ["put.cell-sent", "old"],
    ["put.cell-sent:4", "old"],
    ["put.cell-sent:8", "old"],
    ["put.cell-sent:12", "old"],
    ["put.encoded", "old"],
    ...COMMIT_STEPS,
  ]),
  "document over shards": putOf(shardsOf, (key) => documentOf(key, STREAMED_DOCUMENT_BYTES), [
    ["put.parsed", "old"],
    ["put.cell-sent:3", "old"],
    ["put.encoded", "old"],
    ...COMMIT_STEPS,
  ]),
  "inline over shards": putOf(shardsOf, (key) => ({ bytes: stamped(noise(2_000, 82), key), strategy: "inline" }), [
    ["put.intent-durable", "old"],
    // There is no blob from which anybody could complete it.
    ["put.quorum-durable", "old"],
    ["put.committed", "new"],
    ["put.settled", "new"],
  ]),
  "hot patch": patchOf({ battery_level: 7, status_code: null }, [
    ["patch.parsed", "old"],
    ["patch.committed", "new"],
  ]),
  "cold patch": patchOf({ calibration: { by: "patch" } }, [
    ["patch.parsed", "old"],
    ["put.encoded", "old"],
    ["put.cell-sent:3", "either"],
    ...COMMIT_STEPS,
  ]),
  delete: {
    before: shardsOf,
    after: () => ABSENT,
    send: (client, key) => client.send("DELETE", `/objects/${key}`),
    steps: [
      ["delete.parsed", "old"],
      ["delete.committed", "new"],
    ],
  },
};

/** Sends a body without saying how long it will be. */
export async function putBody(client: StoreClient, key: string, { bytes, strategy }: Body): Promise<Answer> {
  return await client.send("PUT", `/objects/${key}?strategy=${strategy}`, { body: bytes, chunked: true });
}

export function copiesOf(key: string): Body {
  return { bytes: stamped(noise(20_000, 83), key), strategy: "replication" };
}

export function shardsOf(key: string): Body {
  return { bytes: stamped(noise(300_000, 84), key), strategy: "ec" };
}

function documentOf(key: string, bytesMin: number): Body {
  const seed = Buffer.from(key).reduce((sum, byte) => (sum * 31 + byte) % 65_521, 1);
  return { bytes: telemetryDocument({ seed, bytesMin }), strategy: "field_hybrid" };
}

function putOf(
  before: GatewayWrite["before"],
  body: (key: string) => Body,
  steps: GatewayWrite["steps"],
): GatewayWrite {
  const after = (key: string) => bytesState(body(key).bytes);
  return { before, after, steps, send: (client, key) => putBody(client, key, body(key)) };
}

function patchOf(patch: Readonly<Record<string, unknown>>, steps: GatewayWrite["steps"]): GatewayWrite {
  const before = (key: string) => documentOf(key, PACKED_DOCUMENT_BYTES);
  const after = (key: string): KeyState => {
    const document = JSON.parse(before(key).bytes.toString()) as Record<string, unknown>;
    const merged = Object.entries({ ...document, ...patch }).filter(([, value]) => value !== null);
    return { kind: "document", value: Object.fromEntries(merged) };
  };
  return { before, after, steps, send: (client, key) => client.patch(`/objects/${key}`, JSON.stringify(patch)) };
}

/** Marked at both ends, so that halves of two bodies would show. */
function stamped(bytes: Buffer, stamp: string): Buffer {
  const copy = Buffer.from(bytes);
  copy.write(stamp, 0);
  copy.write(stamp, copy.length - Buffer.byteLength(stamp));
  return copy;
}

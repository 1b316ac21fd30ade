/** Gateways that hang in the middle of a write for longer than anybody waits, and then go on. */
import { expect } from "vitest";
import { problemOf, receiptOf, StoreClient, type Answer } from "./black-box/client.ts";
import type { ClusterInspector } from "./cluster-inspector.ts";
import { until } from "./cluster-load.ts";
import type { ExtraMembers } from "./extra-member.ts";
import { copiesOf, putBody, shardsOf, type Body } from "./gateway-writes.ts";
import { ABSENT, bytesState, describeBody, matches, type KeyState } from "./load/journal.ts";
import { noise } from "./store.ts";
import { readKey, type WatchedKeys } from "./watched-keys.ts";

export type StoppedWorld = {
  readonly gateways: ExtraMembers;
  readonly inspector: ClusterInspector;
  /** To a gateway to which nothing happens. */
  readonly steady: StoreClient;
  readonly watched: WatchedKeys;
};

/** What the others do while it is stopped. */
type Meanwhile = "nothing" | "overwrite" | "overwrite_when_completed";

export type StoppedWrite = {
  readonly title: string;
  readonly step: string;
  readonly before: Body | null;
  readonly meanwhile: Meanwhile;
  /** What recovery has done with its write when it is woken; `at_once` is before that. */
  readonly wakes: "fenced" | "completed" | "settled" | "at_once";
  readonly told: "refused" | "accepted";
  readonly finally: "before" | "own" | "other";
};

const RECOVERED_MS_MAX = 120_000;
/** Its half is more than a stripe. */
const UPLOAD_BYTES = 10_000_000;
const OVER = shardsOf("what was there before");

/**
 * | the gateway stops when                | meanwhile its write is     | it wakes up and says   |
 * |---------------------------------------|----------------------------|------------------------|
 * | no blob is sealed                     | given up, behind a fence   | refused                |
 * | all blobs are sealed                  | completed                  | accepted, once         |
 * | … and another gateway overwrites      | given up, behind a fence   | refused                |
 * | … and another overwrites what became of it | completed and overwritten | refused, not once more |
 * | … another overwrites, and it wakes at once | open                   | accepted, as the later of two |
 * | the record is committed, and another overwrites | settled          | accepted, as the earlier of two |
 */
export const STOPPED_WRITES: readonly StoppedWrite[] = [
  row("new and unsealed", "put.intent-durable", null, "nothing", "fenced", "refused", "before"),
  row("unsealed", "put.intent-durable", OVER, "nothing", "fenced", "refused", "before"),
  row("new and sealed", "put.quorum-durable", null, "nothing", "completed", "accepted", "own"),
  row("sealed", "put.quorum-durable", OVER, "nothing", "completed", "accepted", "own"),
  row("sealed, overtaken", "put.quorum-durable", OVER, "overwrite", "fenced", "refused", "other"),
  row(
    "completed, overwritten",
    "put.quorum-durable",
    OVER,
    "overwrite_when_completed",
    "completed",
    "refused",
    "other",
  ),
  row("sealed, overtaken for a moment", "put.quorum-durable", OVER, "overwrite", "at_once", "accepted", "own"),
  row("committed, overwritten", "put.committed", OVER, "overwrite", "settled", "accepted", "other"),
];

function row(
  title: string,
  step: string,
  before: Body | null,
  meanwhile: Meanwhile,
  wakes: StoppedWrite["wakes"],
  told: StoppedWrite["told"],
  last: StoppedWrite["finally"],
): StoppedWrite {
  return { title, step, before, meanwhile, wakes, told, finally: last };
}

/** Resolves when the client has its answer and it has proved right. */
export async function runStoppedWrite(world: StoppedWorld, write: StoppedWrite): Promise<void> {
  const { gateways, steady, watched } = world;
  const key = `stopped-${write.title.replaceAll(/[^a-z]+/g, "-")}`;
  const own = shardsOf(`${key} by the one that stops`);
  const other = copiesOf(`${key} by another`);
  const states = {
    before: write.before === null ? ABSENT : bytesState(write.before.bytes),
    own: bytesState(own.bytes),
    other: bytesState(other.bytes),
  };
  const overwrite = async () => receiptOf(await putBody(steady, key, other));

  if (write.before !== null) receiptOf(await putBody(steady, key, write.before));
  const gateway = await gateways.start(key, `${write.step}/stop`);
  using client = new StoreClient(gateway.url, 2);
  const answered = putBody(client, key, own).catch(() => null);
  await gateway.untilPaused();
  await expectState(steady, key, write.step === "put.committed" ? states.own : states.before);
  if (write.meanwhile === "overwrite") await overwrite();
  await untilReadyToWake(world, key, write, states.own);
  if (write.meanwhile === "overwrite_when_completed") await overwrite();

  // Its index is as old as its sleep was long, and it must not answer from that.
  const read = write.finally === "other" ? expectState(client, key, states.other) : null;
  read?.catch(() => {});
  gateway.resume();
  await read;
  const version = checkAnswer(write, await answered);
  await expectState(steady, key, states[write.finally]);
  watched.add(key, {
    now: states[write.finally],
    finally: [states[write.finally]],
    ...(write.finally === "own" && version !== null ? { version } : {}),
  });
}

async function untilReadyToWake(
  { inspector, steady }: StoppedWorld,
  key: string,
  { wakes }: StoppedWrite,
  own: KeyState,
): Promise<void> {
  switch (wakes) {
    case "at_once":
      return;
    case "completed":
      return await until(`${key} to be completed`, RECOVERED_MS_MAX, async () =>
        matches(own, (await readKey(steady, key)).body),
      );
    case "fenced":
      return await until(`a fence on ${key}`, RECOVERED_MS_MAX, async () => {
        const found = (await inspector.records()).find(({ record }) => (record.key as string) === key);
        return (found?.record.fencedTxids.length ?? 0) > 0;
      });
    case "settled":
      return await until(`${key} to be settled`, RECOVERED_MS_MAX, async () =>
        (await inspector.openIntents()).every((intent) => !intent.endsWith(` on ${key}`)),
      );
  }
}

/** The version that was acknowledged, if one was. */
function checkAnswer({ told }: StoppedWrite, answer: Answer | null): string | null {
  expect(answer, "the connection broke").not.toBeNull();
  const { status, body } = answer as Answer;
  if (told === "accepted") return receiptOf(answer as Answer).version;
  expect([409, 503], body.toString().slice(0, 300)).toContain(status);
  if (status === 409) expect(problemOf(answer as Answer).code).toBe("write_conflict");
  return null;
}

async function expectState(client: StoreClient, key: string, state: KeyState): Promise<void> {
  const { body } = await readKey(client, key);
  expect(matches(state, body), `${key} is ${describeBody(body)}`).toBe(true);
}

/** Half of a body comes to a gateway that stops for so long when it has sent the first stripe to the nodes; then the rest. */
export async function runStoppedUpload({ gateways, steady, watched }: StoppedWorld, pauseMs: number): Promise<void> {
  const key = `upload-stopped-for-${pauseMs}`;
  const bytes = noise(UPLOAD_BYTES, pauseMs);
  const gateway = await gateways.start(key, "put.cell-sent:6/stop");
  using client = new StoreClient(gateway.url, 1);
  const outgoing = client.open("PUT", `/objects/${key}?strategy=ec`, { "transfer-encoding": "chunked" });
  const answered = new Promise<number | null>((resolve) => {
    outgoing.once("error", () => resolve(null));
    outgoing.once("response", (incoming) => resolve(incoming.resume().statusCode ?? null));
  });
  outgoing.write(bytes.subarray(0, UPLOAD_BYTES / 2));
  await gateway.untilPaused();
  await new Promise((resolve) => setTimeout(resolve, pauseMs));
  gateway.resume();
  outgoing.end(bytes.subarray(UPLOAD_BYTES / 2));

  const status = await answered;
  const { body } = await readKey(steady, key);
  console.log(`cluster-gateway-crash: an upload stopped for ${pauseMs} ms was answered ${status ?? "by a reset"}`);
  const now = body === null ? ABSENT : bytesState(bytes);
  expect(matches(now, body), describeBody(body)).toBe(true);
  if (status !== null && status < 300) expect(body).not.toBeNull();
  // Who was not told may be given it later, but only whole.
  const isUnknown = status === null || status >= 500;
  watched.add(key, { now, finally: isUnknown ? [now, bytesState(bytes)] : [now] });
}

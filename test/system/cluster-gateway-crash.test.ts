/**
 * Gateways are killed, or stopped as if they hung, at every step of every kind of write. Whatever the client was not
 * told has wholly happened or not at all, now and after recovery; what it sends again through another gateway stands.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { problemOf, receiptOf, StoreClient, type Answer } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { checkSettled, until } from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { openExtraGateways, type ExtraGateway, type ExtraGateways } from "../support/extra-gateway.ts";
import { copiesOf, GATEWAY_WRITES, putBody, shardsOf, type Body, type Outcome } from "../support/gateway-writes.ts";
import { ABSENT, bytesState, describeBody, KeyJournal, matches, type KeyState } from "../support/load/journal.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { noise } from "../support/store.ts";

const TIMEOUT_MS = 300_000;
const RECOVERED_MS_MAX = 120_000;
const HALF_BYTES = 4_000_000;

type CrashCase = {
  readonly title: string;
  readonly kind: string;
  readonly step: string;
  readonly outcome: Outcome;
  /** What the client does when its connection breaks: it sends the request again elsewhere, or leaves it to recovery. */
  readonly then: "retry" | "leave";
};

/** What reads of one key have to find, and what they have to find in the end. */
type Watched = { readonly journal: KeyJournal; readonly finally: readonly KeyState[]; readonly version: string | null };

type StoppedWrite = {
  readonly key: string;
  readonly gateway: ExtraGateway;
  readonly body: Body;
  /** Null when the connection broke. */
  readonly answer: Promise<Answer | null>;
};

describe("a gateway that dies or hangs in the middle of a write", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const cases = planCrashes(seed);
  const watched: Watched[] = [];
  const stopped: Partial<Record<string, StoppedWrite>> = {};
  let upload: { finish(): Promise<Answer | null>; readonly bytes: Buffer };
  let cluster: LocalCluster;
  let inspector: ClusterInspector;
  let gateways: ExtraGateways;
  let steady: StoreClient;

  beforeAll(async () => {
    console.log(`cluster-gateway-crash: seed ${seed}; SEED=${seed} repeats which writes are sent again`);
    cluster = await startCluster({ gateways: 1, nodes: 6, healers: 1, nats: 3 });
    inspector = await openInspector(cluster);
    gateways = openExtraGateways(cluster);
    steady = new StoreClient(cluster.url);
  }, TIMEOUT_MS);

  afterAll(async () => {
    steady?.[Symbol.dispose]();
    await gateways?.[Symbol.asyncDispose]();
    await inspector?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  /** Writes through a gateway of its own, which stops itself at that step; resolves when it has. */
  async function stopAt(key: string, step: string, before: Body | null, bodyOf: (label: string) => Body) {
    if (before !== null) receiptOf(await putBody(steady, key, before));
    const gateway = await gateways.start(`stopped-${key}`, `${step}/stop`);
    return await writeAndStop(gateway, key, before, bodyOf);
  }

  async function writeAndStop(gateway: ExtraGateway, key: string, before: Body | null, bodyOf: (label: string) => Body) {
    const body = bodyOf(`${key} by the one that stops`);
    const client = new StoreClient(gateway.url, 1);
    const answer = putBody(client, key, body).catch(() => null);
    await gateway.untilStopped();
    expect(matches(before === null ? ABSENT : bytesState(before.bytes), await read(steady, key)), key).toBe(true);
    const write = { key, gateway, body, answer };
    stopped[key] = write;
    return write;
  }

  async function overtake(key: string): Promise<Body> {
    const body = copiesOf(`${key} by the one that overtakes`);
    receiptOf(await putBody(steady, key, body));
    return body;
  }

  function watch(key: string, states: readonly KeyState[], version: string | null = null): void {
    const journal = new KeyJournal(key);
    watched.push({ journal, finally: states, version });
    states.forEach((state, index) => (index === 0 ? journal.acknowledge(state) : journal.doubt(state)));
  }

  async function untilFenced(key: string): Promise<void> {
    await until(`a fence on ${key}`, RECOVERED_MS_MAX, async () => {
      const found = (await inspector.records()).find(({ record }) => (record.key as string) === key);
      return (found?.record.fencedTxids.length ?? 0) > 0;
    });
  }

  async function untilRead(key: string, state: KeyState): Promise<void> {
    await until(`${key} to be completed`, RECOVERED_MS_MAX, async () => matches(state, await read(steady, key)));
  }

  /** The client is told that nothing was done, or to look for itself. */
  async function expectRefused({ key, answer }: StoppedWrite): Promise<void> {
    const told = await answer;
    if (told === null) return;
    expect([409, 503], `${key}: ${told.body.toString().slice(0, 300)}`).toContain(told.status);
    if (told.status === 409) expect(problemOf(told).code).toBe("write_conflict");
  }

  function written(key: string): StoppedWrite {
    const write = stopped[key];
    if (write === undefined) throw new Error(`${key} was not begun`);
    return write;
  }

  test(
    "holds up nobody else when it stops",
    async () => {
      const other = (label: string) => shardsOf(label);
      await Promise.all([
        beginUpload(),
        stopAt("unsealed-over", "put.intent-durable", shardsOf("unsealed-over"), other),
        stopAt("sealed", "put.quorum-durable", null, copiesOf),
        stopAt("sealed-overtaken-late", "put.quorum-durable", shardsOf("sealed-overtaken-late"), other),
        stopAt("sealed-overtaken", "put.quorum-durable", shardsOf("sealed-overtaken"), other),
        stopAt("committed-overtaken", "put.quorum-durable", copiesOf("committed-overtaken"), other),
      ]);
      await overtake("sealed-overtaken");
    },
    TIMEOUT_MS,
  );

  /** Half of an upload goes through a gateway that another write then stops. */
  async function beginUpload(): Promise<void> {
    const gateway = await gateways.start("stopped-unsealed", "put.intent-durable/stop");
    const bytes = noise(2 * HALF_BYTES, 85);
    const client = new StoreClient(gateway.url, 1);
    const outgoing = client.open("PUT", "/objects/half?strategy=ec", { "transfer-encoding": "chunked" });
    const answered = new Promise<Answer | null>((resolve) => {
      outgoing.once("error", () => resolve(null));
      outgoing.once("response", (incoming) => {
        incoming.toArray().then(
          (parts: Buffer[]) =>
            resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(parts) }),
          () => resolve(null),
        );
      });
    });
    await new Promise<void>((resolve) => outgoing.write(bytes.subarray(0, HALF_BYTES), () => resolve()));
    upload = {
      bytes,
      finish() {
        outgoing.end(bytes.subarray(HALF_BYTES));
        return answered;
      },
    };
    await writeAndStop(gateway, "unsealed", null, copiesOf);
  }

  test.concurrent.for(cases)(
    "killed in $title",
    async ({ title, kind, step, outcome, then }) => {
      const write = GATEWAY_WRITES[kind] as (typeof GATEWAY_WRITES)[string];
      const key = title.replaceAll(/[^a-z0-9]+/g, "-");
      const body = write.before(key);
      const before = body === null ? ABSENT : bytesState(body.bytes);
      const after = write.after(key);
      const prepared = body === null ? null : receiptOf(await putBody(steady, key, body)).version;
      const gateway = await gateways.start(`killed-${key}`, step);
      using client = new StoreClient(gateway.url, 1);

      const answer = await write.send(client, key).catch(() => null);
      // Behind the commit the answer may have been faster.
      if (step !== "put.settled") expect(answer?.status, "the answer of the one that died").toBeUndefined();
      else if (answer !== null) receiptOf(answer);
      expect(await gateway.exited).toEqual({ code: null, signal: "SIGKILL" });

      const isCommitted = /committed|settled/.test(step);
      const now = await read(steady, key);
      expect(matches(isCommitted ? after : before, now), `now it is ${describeBody(now)}`).toBe(true);
      if (then === "retry") {
        const again = await write.send(steady, key);
        const isGone = after === ABSENT && isCommitted;
        expect(again.status, again.body.toString().slice(0, 300)).toSatisfy((status: number) =>
          isGone ? status === 404 : status < 300,
        );
        expect(matches(after, await read(steady, key)), "what was sent again").toBe(true);
        watch(key, [after], after === ABSENT ? null : receiptOf(again).version);
      } else if (isCommitted || outcome === "new") {
        watch(key, isCommitted ? [after] : [before, after]);
      } else {
        watch(key, outcome === "either" ? [before, after] : [before], outcome === "either" ? null : prepared);
      }
    },
    TIMEOUT_MS,
  );

  test(
    "is told so when it wakes up and recovery has given its write up",
    async () => {
      await Promise.all(["unsealed", "unsealed-over", "sealed-overtaken"].map(untilFenced));
      const over = written("sealed-overtaken");
      for (const key of ["unsealed", "unsealed-over", "sealed-overtaken"]) written(key).gateway.resume();
    },
    TIMEOUT_MS,
  );
});

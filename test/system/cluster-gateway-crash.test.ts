/**
 * Gateways are killed, or stopped as if they hung, at every step of every kind of write. What the client was not told
 * has wholly happened or not at all, at once and after recovery; what it sends again through another gateway stands.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { receiptOf, StoreClient } from "../support/black-box/client.ts";
import { openInspector, type ClusterInspector } from "../support/cluster-inspector.ts";
import { checkSettled, SOON_COLLECTED, until } from "../support/cluster-load.ts";
import { startCluster, type LocalCluster } from "../support/cluster.ts";
import { openExtraMembers, type ExtraMembers } from "../support/extra-member.ts";
import { GATEWAY_WRITES, putBody, type GatewayWrite, type Outcome } from "../support/gateway-writes.ts";
import { ABSENT, bytesState, describeBody, matches } from "../support/load/journal.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { runStoppedUpload, runStoppedWrite, STOPPED_WRITES, type StoppedWrite } from "../support/stopped-writes.ts";
import { readKey, WatchedKeys } from "../support/watched-keys.ts";

const TIMEOUT_MS = 300_000;
/** Longer than any wait of a gateway. */
const UPLOAD_STOPPED_MS = 20_000;

type Crash = readonly [
  kind: string,
  step: string,
  /** What it does when its connection breaks: it sends the request again elsewhere, or leaves it to recovery. */
  client: "retries" | "leaves it",
  what: { readonly write: GatewayWrite; readonly outcome: Outcome },
];

describe("a gateway in the middle of a write", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const watched = new WatchedKeys();
  const stopped = new Map<StoppedWrite | "upload", Promise<void>>();
  let cluster: LocalCluster;
  let inspector: ClusterInspector;
  let gateways: ExtraMembers;
  let steady: StoreClient;

  beforeAll(async () => {
    console.log(`cluster-gateway-crash: seed ${seed}; SEED=${seed} repeats which writes are sent again`);
    cluster = await startCluster({ gateways: 1, nodes: 6, healers: 1, nats: 3, settings: { healing: SOON_COLLECTED } });
    inspector = await openInspector(cluster);
    gateways = openExtraMembers(cluster, "gateway");
    steady = new StoreClient(cluster.url);
    // They sleep while others are killed.
    const world = { gateways, inspector, steady, watched };
    for (const write of STOPPED_WRITES) stopped.set(write, runStoppedWrite(world, write));
    stopped.set("upload", runStoppedUpload(world, UPLOAD_STOPPED_MS));
    for (const run of stopped.values()) run.catch(() => {});
  }, TIMEOUT_MS);

  afterAll(async () => {
    steady?.[Symbol.dispose]();
    await gateways?.[Symbol.asyncDispose]();
    await inspector?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  }, TIMEOUT_MS);

  test.concurrent.for(planCrashes(seed))(
    "killed in %s at %s, whose client %s, leaves the old state or the new one",
    { timeout: TIMEOUT_MS },
    async ([kind, step, client, { write, outcome }]) => {
      const key = `killed-${kind}-${step}`.replaceAll(/[^a-z0-9]+/g, "-");
      const body = write.before(key);
      const before = body === null ? ABSENT : bytesState(body.bytes);
      const after = write.after(key);
      const prepared = body === null ? undefined : receiptOf(await putBody(steady, key, body)).version;
      const gateway = await gateways.start(key, step);
      using doomed = new StoreClient(gateway.url, 1);

      const answer = await write.send(doomed, key).catch(() => null);
      // Behind the commit the answer may have been faster.
      if (step !== "put.settled" || answer === null) expect(answer?.status).toBeUndefined();
      else receiptOf(answer);
      expect(await gateway.exited).toEqual({ code: null, signal: "SIGKILL" });

      const isCommitted = /committed|settled/.test(step);
      const now = isCommitted ? after : before;
      const found = (await readKey(steady, key)).body;
      expect(matches(now, found), `now it is ${describeBody(found)}`).toBe(true);
      if (client === "retries") {
        const again = await write.send(steady, key);
        const version = again.status === 204 || again.status === 404 ? undefined : receiptOf(again).version;
        if (after === ABSENT) expect(again.status).toBe(isCommitted ? 404 : 204);
        expect(matches(after, (await readKey(steady, key)).body), "what was sent again").toBe(true);
        watched.add(key, { now: after, finally: [after], ...(version === undefined ? {} : { version }) });
      } else {
        const last = { old: [before], new: [after], either: [before, after] }[outcome];
        const isUntouched = outcome === "old" && prepared !== undefined;
        watched.add(key, { now, finally: last, ...(isUntouched ? { version: prepared } : {}) });
      }
    },
  );

  test.for(STOPPED_WRITES.map((write) => [write.title, write.told, write] as const))(
    "stopped in a write, %s, is %s when it wakes up",
    { timeout: TIMEOUT_MS },
    async ([, , write]) => await stopped.get(write),
  );

  test(
    "stopped with half of a body takes the rest or fails cleanly",
    async () => await stopped.get("upload"),
    TIMEOUT_MS,
  );

  test(
    "leaves nothing open, nothing too much and nothing missing, and all gateways agree",
    async () => {
      let isSettled = false;
      const settled = checkSettled(inspector, `seed ${seed}`).finally(() => (isSettled = true));
      settled.catch(() => {});
      await until("recovery", TIMEOUT_MS, async () => {
        await watched.observe(steady);
        return isSettled;
      });
      await settled;
      expect(await watched.check(steady)).toEqual([]);
      using late = new StoreClient((await gateways.start("late")).url);
      expect(await watched.check(late)).toEqual([]);
      expect(cluster.members.filter(({ isRunning }) => !isRunning).map(({ name }) => name)).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

/**
 * Every step of every write; a step that several have is retried in one and left in the next. What recovery takes
 * longest for comes first.
 */
function planCrashes(seed: number): Crash[] {
  const random = createSeeded(seed);
  const turns = new Map<string, number>();
  const crashes = Object.entries(GATEWAY_WRITES).flatMap(([kind, write]) =>
    write.steps.map(([step, outcome]): Crash => {
      const turn = (turns.get(step) ?? random.between(0, 1)) + 1;
      turns.set(step, turn);
      return [kind, step, turn % 2 === 0 ? "retries" : "leaves it", { write, outcome }];
    }),
  );
  const isQuick = ([, step]: Crash) => /parsed|encoded|committed|settled/.test(step);
  return [...crashes.filter((crash) => !isQuick(crash)), ...crashes.filter(isQuick)];
}

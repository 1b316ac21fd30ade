/**
 * A served store is killed with -9 again and again while clients write to it, and is held to what they were told:
 * every key reads as its last acknowledged state, or as one whose answer never came, and always whole.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { quiet } from "../support/black-box/served.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { checkKeys, CLIENTS, createLoad, type Load } from "../support/load/load.ts";
import { startServe, type ServedStore } from "../support/serve.ts";
import { openTestStore, type TestStore } from "../support/store.ts";

const ROUNDS_MIN = 4;
const BUDGET_MS = 25_000;
const KILL_DELAY_MS_MAX = 40;
const NOTHING_RECOVERED = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };

describe("kill -9 under load", () => {
  test("every acknowledged write is there, every other is whole or absent, and nothing is left over", async () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    console.log(`crash-under-load: seed ${seed}; SEED=${seed} repeats the workload`);
    const load = createLoad(seed);
    await using directory = await temporaryDirectory();
    const dataDir = join(directory.path, "data");
    const endMs = performance.now() + BUDGET_MS;
    let settled = 0;
    for (let round = 1; round <= ROUNDS_MIN || performance.now() < endMs; round += 1) {
      const context = `seed ${seed}, round ${round}`;
      await using store = await startServe({ dataDir });
      await checkServed(store, load, context);
      await killUnderLoad(store, load);
      // Every other time the next server recovers what this one left; the others it is done where all can be seen.
      if (round % 2 === 0) settled += await recoverInProcess(dataDir, load, context);
    }
    await using store = await startServe({ dataDir });
    await checkServed(store, load, `seed ${seed}, last`);
    expect(await store.stop()).toEqual({ code: 0, signal: null });
    const afterStop = await openInProcess(dataDir, `seed ${seed}, after a clean stop`);
    expect(afterStop.store.recovered).toEqual(NOTHING_RECOVERED);
    await afterStop.store.close();

    expect(settled, "writes that were under way when the process was killed").toBeGreaterThan(0);
    expect(load.tally.acknowledged).toBeGreaterThan(100);
    expect(load.tally.unknown).toBeGreaterThan(0);
  }, 120_000);
});

/** Lets the clients loose, and kills the server while they are at it. */
async function killUnderLoad(store: ServedStore, { random, clients, tally }: Load): Promise<void> {
  let stopped = false;
  const acknowledgedBefore = tally.acknowledged;
  const acknowledgedUntilKill = random.between(30, 150);
  const delayMs = random.between(0, KILL_DELAY_MS_MAX);
  using client = new StoreClient(store.url, CLIENTS);
  const running = Promise.all(
    clients.map((each) =>
      each
        .run(client, () => stopped)
        .finally(() => {
          stopped = true;
        }),
    ),
  );
  running.catch(() => {});
  while (!stopped && tally.acknowledged - acknowledgedBefore < acknowledgedUntilKill) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  const killed = store.kill9();
  stopped = true;
  await killed;
  await running;
}

async function checkServed(store: ServedStore, load: Load, context: string): Promise<void> {
  using client = new StoreClient(store.url);
  const stats = await quiet(client);
  expect(stats.health.status, context).toBe("ok");
  await checkKeys(load, context, async (key) => {
    const answer = await client.get(`/objects/${key}`);
    if (answer.status === 404) return null;
    expect(answer.status, `${context}: ${key}`).toBe(200);
    return answer.body;
  });
}

/** Recovers in this process; answers how many writes that settled. */
async function recoverInProcess(dataDir: string, load: Load, context: string): Promise<number> {
  const opened = await openInProcess(dataDir, context);
  try {
    await checkKeys(load, context, (key) => opened.get(key));
    const { finished, resurrected, rolledBack, left } = opened.store.recovered;
    expect(left, context).toBe(0);
    return finished + resurrected + rolledBack;
  } finally {
    await opened.store.close();
  }
}

/** Opens the data, which recovers what is open, and sees that nothing is left over. */
async function openInProcess(dataDir: string, context: string): Promise<TestStore> {
  const opened = await openTestStore({ dir: dataDir });
  expect(await opened.orphans(), `${context}: orphans`).toEqual([]);
  expect(await opened.openIntents(), `${context}: open intents`).toBe(0);
  return opened;
}

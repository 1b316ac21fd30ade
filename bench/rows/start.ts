/** How long a store takes until it answers, new and on existing data, and what it takes while nobody asks anything. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Row, RowContext } from "../row.ts";
import { memoryOf, startStore } from "../server-process.ts";
import { median } from "../statistics.ts";
import { getBytes, putObject } from "../store-client.ts";
import { RUNTIMES } from "../../test/support/runtimes.ts";
import { KIB } from "../../src/lib/bytes.ts";

const MB = 1e6;
const READY_MS_MAX = 3_000;
const STORED_OBJECTS = 500;
const IDLE_MS = 2_000;

export const start: Row = {
  name: "start",
  title: "start-up until ready, idle memory",
  runtimes: RUNTIMES,
  async run(context) {
    const fresh: number[] = [];
    const again: number[] = [];
    const idle: number[] = [];
    for (let sample = 0; sample < context.samples; sample++) {
      const directory = join(context.directory, String(sample));
      fresh.push(await startOnce(context, directory, fill));
      again.push(
        await startOnce(context, directory, async (url, pid) => {
          await getBytes(url, "/objects/s/0");
          await sleep(IDLE_MS);
          idle.push((memoryOf(pid)?.rss ?? Number.NaN) / MB);
        }),
      );
      await rm(directory, { recursive: true });
    }
    return {
      measured: [
        { label: "new store", value: median(fresh), unit: "ms", samples: fresh },
        { label: `on ${STORED_OBJECTS} objects`, value: median(again), unit: "ms", samples: again },
        { label: "idle RSS", value: median(idle), unit: "MB", samples: idle },
      ],
      yardsticks: [],
      aims: [{ text: "ready in under 3 s", met: Math.max(median(fresh), median(again)) < READY_MS_MAX }],
      notes: [],
    };
  },
};

async function startOnce(
  context: RowContext,
  directory: string,
  use: (url: string, pid: number) => Promise<void>,
): Promise<number> {
  const store = await startStore(context.runtime, directory);
  await use(store.url, store.pid);
  await store.stop();
  return store.readyMs;
}

async function fill(url: string): Promise<void> {
  const body = Buffer.alloc(4 * KIB, "k");
  for (let key = 0; key < STORED_OBJECTS; key++) await putObject(url, `/objects/s/${key}`, body, "text/plain");
}

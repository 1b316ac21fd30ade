/** All records against all that the nodes hold, for more and more objects: time and memory of one audit. */
import { randomBytes } from "node:crypto";
import { jobDone, startJob } from "../healing-client.ts";
import type { Figure, Row } from "../row.ts";
import { memoryOf, resetPeakMemory, startStore } from "../server-process.ts";
import { putObject } from "../store-client.ts";

const MB = 1e6;
const WRITERS = 32;
const OBJECT_BYTES = 600;
const WAIT_MS_MAX = 20 * 60_000;
const GROWTH_MB_MAX = 200;

export const auditObjects: Row = {
  name: "audit-100k",
  title: "an audit of 25,000, 50,000 and 100,000 replicated objects",
  runtimes: ["node"],
  async run(context) {
    const steps = (context.quick ? [2_500, 5_000] : [25_000, 50_000, 100_000]) as readonly number[];
    const store = await startStore(context.runtime, context.directory);
    const measured: Figure[] = [];
    let growth = 0;
    try {
      let stored = 0;
      for (const objects of steps) {
        await fill(store.url, stored, objects);
        stored = objects;
        const before = memoryOf(store.pid);
        if (before) resetPeakMemory(store.pid);
        const startedAt = performance.now();
        await jobDone(store.url, await startJob(store.url, "/cluster/healing/audit"), WAIT_MS_MAX);
        const ms = performance.now() - startedAt;
        const after = memoryOf(store.pid);
        growth = ((after?.rssPeak ?? Number.NaN) - (before?.rss ?? Number.NaN)) / MB;
        measured.push(
          { label: `${objects.toLocaleString("en")} objects`, value: ms, unit: "ms" },
          { label: `${objects.toLocaleString("en")} objects, peak RSS growth`, value: growth, unit: "MB" },
        );
      }
    } finally {
      await store.stop();
    }
    return {
      measured,
      yardsticks: [],
      aims: [{ text: `peak RSS growth ≤ ${GROWTH_MB_MAX} MB, however many`, met: growth <= GROWTH_MB_MAX }],
      notes: ["three blobs each"],
    };
  },
};

async function fill(url: string, from: number, to: number): Promise<void> {
  const body = randomBytes(OBJECT_BYTES);
  let next = from;
  const writer = async () => {
    while (next < to) {
      await putObject(url, `/objects/audited/${next++}?strategy=replication`, body, "application/octet-stream");
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
}

/**
 * All records against all that the nodes hold, for more and more objects: time and memory of one audit. Then, where it is asked
 * for, all are deleted: how long it takes until the last blob is gone.
 */
import { randomBytes } from "node:crypto";
import { jobDone, startJob, untilSo } from "../healing-client.ts";
import type { Figure, Row } from "../row.ts";
import type { ServerProcess } from "../server-process.ts";
import { memoryOf, resetPeakMemory, startStore } from "../server-process.ts";
import { deleteObject, putObject, readUsage } from "../store-client.ts";

const MB = 1e6;
const CLIENTS = 32;
const OBJECT_BYTES = 600;
const WAIT_MS_MAX = 30 * 60_000;
const GROWTH_MB_MAX = 200;
/** Deleted objects can be brought back for a day by default: here nobody wants to wait. */
const SETTINGS = { KINTSUGI_HEALING_UNDELETE_MS: "0" };

type AuditRow = {
  readonly name: string;
  readonly full: readonly number[];
  readonly quick: readonly number[];
  readonly collects: boolean;
};

const UP_TO_100K: AuditRow = {
  ...{ name: "audit-100k", collects: true },
  ...{ full: [25_000, 50_000, 100_000], quick: [2_500, 5_000] },
};
const UP_TO_1M: AuditRow = {
  ...{ name: "audit-1m", collects: false },
  ...{ full: [250_000, 500_000, 1_000_000], quick: [5_000, 10_000] },
};

export const auditObjects = auditRow(UP_TO_100K);
export const auditMillion = auditRow(UP_TO_1M);

function auditRow({ name, full, quick, collects }: AuditRow): Row {
  const counts = full.map((count) => count.toLocaleString("en")).join(", ");
  return {
    name,
    title: `an audit of ${counts} replicated objects${collects ? ", and their collection" : ""}`,
    runtimes: ["node"],
    async run(context) {
      const measured: Figure[] = [];
      let growth = 0;
      const store = await startStore(context.runtime, context.directory, SETTINGS);
      const { url, pid } = store;
      try {
        let stored = 0;
        for (const objects of context.quick ? quick : full) {
          await forEach(stored, objects, putOne(url));
          stored = objects;
          const { ms, growthMb } = await measure(pid, async () => {
            await jobDone(url, await startJob(url, "/cluster/healing/audit"), WAIT_MS_MAX);
          });
          growth = growthMb;
          measured.push(...figuresOf(`${objects.toLocaleString("en")} objects`, { ms, growthMb }));
        }
        if (collects) measured.push(...(await collectAll(store, stored)));
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
}

async function collectAll({ url, pid }: ServerProcess, stored: number): Promise<readonly Figure[]> {
  await forEach(0, stored, (key) => deleteObject(url, key));
  const collected = await measure(pid, async () => {
    await jobDone(url, await startJob(url, "/cluster/healing/audit"), WAIT_MS_MAX);
    await untilSo("the blobs of what was deleted to go", WAIT_MS_MAX, async () => {
      // What stays is the tombstones that nodes keep, which are without content.
      return (await readUsage(url)).liveBytes < stored * OBJECT_BYTES;
    });
  });
  return figuresOf(`${stored.toLocaleString("en")} deleted, collected in`, collected);
}

type Measured = { readonly ms: number; readonly growthMb: number };

function figuresOf(label: string, { ms, growthMb }: Measured): readonly Figure[] {
  return [
    { label, value: ms, unit: "ms" },
    { label: `${label}, peak RSS growth`, value: growthMb, unit: "MB" },
  ];
}

async function measure(pid: number, work: () => Promise<void>): Promise<Measured> {
  const before = memoryOf(pid);
  if (before) resetPeakMemory(pid);
  const startedAt = performance.now();
  await work();
  const ms = performance.now() - startedAt;
  return { ms, growthMb: ((memoryOf(pid)?.rssPeak ?? Number.NaN) - (before?.rss ?? Number.NaN)) / MB };
}

function putOne(url: string): (key: string) => Promise<unknown> {
  const body = randomBytes(OBJECT_BYTES);
  return (key) => putObject(url, `${key}?strategy=replication`, body, "application/octet-stream");
}

async function forEach(from: number, to: number, act: (key: string) => Promise<unknown>): Promise<void> {
  let next = from;
  const client = async () => {
    while (next < to) await act(`/objects/audited/${next++}`);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

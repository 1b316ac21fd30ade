/**
 * Reads as people make them: few objects very often, most of them hardly ever (Zipf, exponent 1), of more objects than
 * the cache has room for. The same requests with the cache that a store has by itself, and without one.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { LoadRequest, LoadResult } from "../load.ts";
import type { Figure, Row, RowContext } from "../row.ts";
import { startStore, type ServerProcess } from "../server-process.ts";
import { median, sum } from "../statistics.ts";
import { putObject, readCache } from "../store-client.ts";
import { runWrk } from "../wrk.ts";
import { KIB, MIB } from "../../src/lib/bytes.ts";
import { createSeeded } from "../../test/support/load/seeded.ts";

const SIZES = [
  { label: "4 KiB replicated", bytes: 4 * KIB, strategy: "replication", objects: 50_000 },
  { label: "256 KiB erasure coded", bytes: 256 * KIB, strategy: "ec", objects: 1_000 },
] as const;
/** The default; a quick run has a tenth of the objects, and of the cache. */
const CACHE_BYTES = 64 * MIB;
const CONNECTIONS = 32;
const PUTS_AT_ONCE = 16;
const REQUESTS = 100_000;
const WARM_UP_SECONDS = 8;
const HIT_RATE_MIN = 0.7;
/** The same requests in every run. */
const SEED = 1;

type Size = (typeof SIZES)[number];
type Measured = { readonly loads: readonly LoadResult[]; readonly hitRate: number };

export const zipfCache: Row = {
  name: "get-zipf",
  title: "GET of more objects than the cache holds, Zipf(1), 32 connections",
  runtimes: ["node"],
  async run(context) {
    const measured: Figure[] = [];
    const yardsticks: Figure[] = [];
    const hitRates: number[] = [];
    let failed = 0;
    for (const size of SIZES) {
      const objects = context.quick ? size.objects / 10 : size.objects;
      const cacheBytes = context.quick ? Math.floor(CACHE_BYTES / 10) : CACHE_BYTES;
      const directory = join(context.directory, size.strategy);
      const cached = await measure(context, directory, size, objects, cacheBytes);
      const uncached = await measure(context, directory, size, objects, 0);
      const [withCache, without] = [cached, uncached].map(({ loads }) => median(loads.map((load) => load.perSecond)));
      hitRates.push(cached.hitRate);
      failed += sum([...cached.loads, ...uncached.loads].map((load) => load.failed));
      measured.push(
        { label: `${size.label}, hit rate`, value: cached.hitRate * 100, unit: "%" },
        { label: `${size.label}, cached`, value: withCache as number, unit: "/s" },
        { label: `${size.label}, p99`, value: median(cached.loads.map((load) => load.p99Ms)), unit: "ms" },
        { label: `${size.label}, of uncached`, value: (withCache as number) / (without as number), unit: "×" },
      );
      yardsticks.push(
        { label: `${size.label}, without a cache`, value: without as number, unit: "/s" },
        { label: `${size.label}, p99`, value: median(uncached.loads.map((load) => load.p99Ms)), unit: "ms" },
      );
    }
    return {
      ...{ measured, yardsticks },
      aims: [
        { text: `hit rate ≥ ${HIT_RATE_MIN * 100} %`, met: hitRates.every((rate) => rate >= HIT_RATE_MIN) },
        { text: "every request succeeds", met: failed === 0 },
      ],
      notes: SIZES.map(({ label, bytes, objects }) => {
        const share = Math.round((100 * CACHE_BYTES) / (bytes * objects));
        return `${label}: ${objects.toLocaleString("en")} objects, the cache takes ${share} % of their bytes`;
      }),
    };
  },
};

/** The second store on the same directory finds the objects there. */
async function measure(
  context: RowContext,
  directory: string,
  { bytes, strategy }: Size,
  objects: number,
  cacheBytes: number,
): Promise<Measured> {
  const store = await startStore(context.runtime, directory, { KINTSUGI_CACHE_BYTES_MAX: `${cacheBytes}` });
  try {
    if (cacheBytes > 0) await fill(store, strategy, bytes, objects);
    const requests = zipfRequests(objects);
    const requestsOf = (connection: number) =>
      requests.slice((connection * REQUESTS) / CONNECTIONS, ((connection + 1) * REQUESTS) / CONNECTIONS);
    const load = async (seconds: number) => await runWrk(store.url, { connections: CONNECTIONS, seconds, requestsOf });
    await load(context.quick ? 2 : WARM_UP_SECONDS);
    const before = await readCache(store.url);
    const loads: LoadResult[] = [];
    for (let sample = 0; sample < context.samples; sample += 1) loads.push(await load(context.seconds));
    const after = await readCache(store.url);
    const [hits, misses] = [after.hits - before.hits, after.misses - before.misses];
    return { loads, hitRate: hits / Math.max(1, hits + misses) };
  } finally {
    await store.stop();
  }
}

async function fill(store: ServerProcess, strategy: string, bytes: number, objects: number): Promise<void> {
  const source = randomBytes(bytes);
  let next = 0;
  const writer = async () => {
    while (next < objects) {
      await putObject(store.url, `${pathOf(next++)}?strategy=${strategy}`, source, "application/octet-stream");
    }
  };
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, writer));
}

/** The n-th most wanted object is asked for in proportion to 1/n; which ones are wanted has nothing to do with their age. */
function zipfRequests(objects: number): LoadRequest[] {
  const shares: number[] = [];
  let total = 0;
  for (let rank = 1; rank <= objects; rank += 1) shares.push((total += 1 / rank));
  const seeded = createSeeded(SEED);
  return Array.from({ length: REQUESTS }, () => {
    const rank = firstAtLeast(shares, seeded.next() * total);
    return { method: "GET", path: pathOf((rank * SPREAD) % objects) };
  });
}

/** A prime larger than the number of objects, so that every rank has an object of its own. */
const SPREAD = 1_000_003;

function pathOf(object: number): string {
  return `/objects/zipf/${object}`;
}

/** Index of the first of the rising `values` that is at least `wanted`. */
function firstAtLeast(values: readonly number[], wanted: number): number {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

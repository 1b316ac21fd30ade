/** Rows 1 and 2: many small objects, 64 connections. */
import { runLoad, type LoadRequest, type LoadResult } from "../load.ts";
import type { Row, RowContext, RowResult } from "../row.ts";
import { startBareServer, startStore } from "../server-process.ts";
import { median, sum } from "../statistics.ts";
import { putObject } from "../store-client.ts";
import { RUNTIMES } from "../../test/support/runtimes.ts";
import { KIB } from "../../src/lib/bytes.ts";

const CONNECTIONS = 64;
const BODY = Buffer.alloc(KIB, "k");
/** More than a connection gets to send while the clock runs, so that no key comes twice. */
const KEYS_PER_CONNECTION = 1_500;
const STORED_KEYS = 512;

export const putSmall: Row = {
  name: "put-1k",
  title: "PUT 1 KiB ×3 durable, 64 connections",
  runtimes: RUNTIMES,
  async run(context) {
    let run = 0;
    return await compare(context, {
      prepare: async () => {},
      requestsOf: (connection) => {
        if (connection === 0) run += 1;
        return Array.from({ length: KEYS_PER_CONNECTION }, (_, index) => ({
          method: "PUT",
          path: `/objects/put/${run}/${connection}/${index}?strategy=replication`,
          body: BODY,
        }));
      },
      perSecondMin: 4_000,
      ratioMin: 0.5,
    });
  },
};

export const getSmall: Row = {
  name: "get-1k",
  title: "GET 1 KiB, 64 connections",
  runtimes: RUNTIMES,
  run: (context) =>
    compare(context, {
      prepare: async (url) => {
        for (let key = 0; key < STORED_KEYS; key++) {
          await putObject(url, `/objects/get/${key}?strategy=replication`, BODY, "application/octet-stream");
        }
      },
      requestsOf: (connection) =>
        Array.from({ length: STORED_KEYS / 8 }, (_, index) => ({
          method: "GET",
          path: `/objects/get/${(connection * 8 + index) % STORED_KEYS}`,
        })),
      perSecondMin: 8_000,
      ratioMin: 0.7,
    }),
};

type Comparison = {
  readonly prepare: (storeUrl: string) => Promise<void>;
  readonly requestsOf: (connection: number) => readonly LoadRequest[];
  readonly perSecondMin: number;
  readonly ratioMin: number;
};

/** Takes turns between the bare server and the store, so that a slow moment of the machine hits both. */
async function compare(context: RowContext, comparison: Comparison): Promise<RowResult> {
  const bare = await startBareServer(context.runtime);
  // These few keys would all be in memory: it is the nodes that are measured here.
  const store = await startStore(context.runtime, context.directory, { KINTSUGI_CACHE_BYTES_MAX: "0" });
  await comparison.prepare(store.url);
  const load = async (url: string, seconds: number) =>
    await runLoad(url, { connections: CONNECTIONS, seconds, requestsOf: comparison.requestsOf });
  await load(bare.url, 1);
  await load(store.url, context.quick ? 1 : 3);
  const yardstick: LoadResult[] = [];
  const measured: LoadResult[] = [];
  for (let sample = 0; sample < context.samples; sample++) {
    yardstick.push(await load(bare.url, context.seconds));
    measured.push(await load(store.url, context.seconds));
  }
  await Promise.all([bare.stop(), store.stop()]);
  return judge(comparison, measured, yardstick);
}

function judge(comparison: Comparison, measured: LoadResult[], yardstick: LoadResult[]): RowResult {
  const storeRates = measured.map((sample) => sample.perSecond);
  const bareRates = yardstick.map((sample) => sample.perSecond);
  const perSecond = median(storeRates);
  const ratio = perSecond / median(bareRates);
  const failed = sum(measured.map((sample) => sample.failed));
  return {
    measured: [
      { label: "store", value: perSecond, unit: "/s", samples: storeRates },
      { label: "ratio", value: ratio, unit: "×" },
      { label: "p50", value: median(measured.map((sample) => sample.p50Ms)), unit: "ms" },
      { label: "p99", value: median(measured.map((sample) => sample.p99Ms)), unit: "ms" },
    ],
    yardsticks: [{ label: "bare Hono server", value: median(bareRates), unit: "/s", samples: bareRates }],
    aims: [
      { text: `≥ ${comparison.perSecondMin}/s`, met: perSecond >= comparison.perSecondMin },
      { text: `≥ ${comparison.ratioMin} of the bare server`, met: ratio >= comparison.ratioMin },
      { text: "every request succeeds", met: failed === 0 },
    ],
    notes: failed === 0 ? [] : [`${failed} requests failed`],
  };
}

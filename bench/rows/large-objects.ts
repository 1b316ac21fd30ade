/** Rows 4 and 5: 64 MiB at a time, erasure coded, one client; reads also with two nodes gone. */
import { createHash, randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Row, RowContext } from "../row.ts";
import { startBareServer, startStore } from "../server-process.ts";
import { median } from "../statistics.ts";
import { readDataNodes, settleDisk } from "../store-client.ts";
import { download, downloadSha256, upload, type Transfer } from "../transfer.ts";
import { diskWriteRate, sha256Rate } from "../yardsticks/machine-rates.ts";
import { MIB } from "../../src/lib/bytes.ts";

const OBJECT_BYTES = 64 * MIB;
const MB = 1e6;
/** RS(4+2) writes six bytes for every four. */
const WRITE_EXPANSION = 1.5;
const NODES_LOST = 2;
const PATH = "/objects/large";

export const putLarge: Row = {
  name: "put-64m",
  title: "PUT 64 MiB ec, one client",
  runtimes: ["node"],
  async run(context) {
    const source = randomBytes(OBJECT_BYTES);
    const store = await startStore(context.runtime, context.directory);
    const hashed: number[] = [];
    const written: number[] = [];
    const stored: number[] = [];
    await upload(store.url, { path: `${PATH}/warm?strategy=ec`, source, bytes: OBJECT_BYTES });
    for (let sample = 0; sample < context.samples; sample++) {
      hashed.push(sha256Rate(1) / MB);
      written.push(diskWriteRate(context.directory, 1) / MB);
      await settleDisk(context.directory);
      stored.push(
        rateOf(await upload(store.url, { path: `${PATH}/${sample}?strategy=ec`, source, bytes: OBJECT_BYTES })),
      );
    }
    const intact = (await downloadSha256(store.url, `${PATH}/0`)) === createHash("sha256").update(source).digest("hex");
    await store.stop();

    const rate = median(stored);
    const bound = Math.min(median(hashed), median(written) / WRITE_EXPANSION);
    return {
      measured: [
        { label: "store", value: rate, unit: "MB/s", samples: stored },
        { label: "of the bound", value: (rate / bound) * 100, unit: "%" },
      ],
      yardsticks: [
        { label: "bound", value: bound, unit: "MB/s" },
        { label: "SHA-256, one thread", value: median(hashed), unit: "MB/s", samples: hashed },
        { label: "disk write with fsync", value: median(written), unit: "MB/s", samples: written },
      ],
      aims: [
        { text: "≥ 65 % of min(SHA-256, disk ÷ 1.5)", met: rate >= 0.65 * bound },
        { text: "reads back identical", met: intact },
      ],
      notes: [],
    };
  },
};

export const getLarge: Row = {
  name: "get-64m",
  title: "GET 64 MiB ec, one client; the same with 2 nodes gone",
  runtimes: ["node"],
  async run(context) {
    const source = randomBytes(OBJECT_BYTES);
    const digest = createHash("sha256").update(source).digest("hex");
    const bare = await startBareServer(context.runtime);
    const bareRates = await measure(context, bare.url, `${PATH}?bytes=${OBJECT_BYTES}`);
    await bare.stop();

    let store = await startStore(context.runtime, context.directory);
    await upload(store.url, { path: `${PATH}?strategy=ec`, source, bytes: OBJECT_BYTES });
    const healthy = await measure(context, store.url, PATH);
    const healthyIntact = (await downloadSha256(store.url, PATH)) === digest;
    // The worst loss there is: both nodes held data, so that every stripe has to be decoded.
    const lost = (await readDataNodes(store.url, PATH)).slice(0, NODES_LOST);
    await store.stop();
    for (const node of lost) await rm(join(context.directory, "nodes", node), { recursive: true });
    store = await startStore(context.runtime, context.directory);
    const degraded = await measure(context, store.url, PATH);
    const degradedIntact = (await downloadSha256(store.url, PATH)) === digest;
    await store.stop();

    const rate = median(healthy);
    const share = median(degraded) / rate;
    return {
      measured: [
        { label: "store", value: rate, unit: "MB/s", samples: healthy },
        { label: "2 data nodes gone", value: median(degraded), unit: "MB/s", samples: degraded },
        { label: "of healthy", value: share * 100, unit: "%" },
      ],
      yardsticks: [{ label: "bare streaming server", value: median(bareRates), unit: "MB/s", samples: bareRates }],
      aims: [
        { text: "≥ 500 MB/s", met: rate >= 500 },
        { text: "≥ 70 % of healthy with 2 nodes gone", met: share >= 0.7 },
        { text: "reads back identical, both times", met: healthyIntact && degradedIntact },
      ],
      notes: [`lost: ${lost.join(", ")}`],
    };
  },
};

/** Rates of several downloads after one that warms up. */
async function measure(context: RowContext, url: string, path: string): Promise<number[]> {
  await download(url, path);
  const rates: number[] = [];
  for (let sample = 0; sample < context.samples * 2 - 1; sample++) rates.push(rateOf(await download(url, path)));
  return rates;
}

function rateOf(transfer: Transfer): number {
  return transfer.bytes / transfer.ms / 1e3;
}

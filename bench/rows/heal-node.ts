/**
 * A node comes back with nothing of what it held: how long until everything is where it should be again, and what clients
 * notice of it. Once with the bounds that a cluster has by itself while clients are at work, once as fast as it goes.
 */
import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { startBenchCluster } from "../cluster-process.ts";
import { jobDone, readHealing, startJob, unboundTrack, untilSo } from "../healing-client.ts";
import { keepInFlight, type FlightResult } from "../in-flight.ts";
import type { Row, RowContext, RowResult } from "../row.ts";
import { median, sum } from "../statistics.ts";
import { putObject, readNodeBytes } from "../store-client.ts";
import { download, upload } from "../transfer.ts";
import { diskWriteRate, sha256Rate } from "../yardsticks/machine-rates.ts";
import { GIB, KIB, MIB } from "../../src/lib/bytes.ts";
import type { ClusterMember, LocalCluster } from "../../test/support/cluster.ts";

const MB = 1e6;
const OBJECT_BYTES = 16 * MIB;
const WRITERS = 2;
/** RS(4+2): a node holds a shard of each object, a quarter of its size. */
const DATA_SHARDS = 4;
const CLIENT_LANES = 8;
const CLIENT_BYTES = 64 * KIB;
const CLIENT_OBJECTS = 64;
const HEAL_MS_MAX = 20 * 60_000;
const SLOWER_MAX = 2;

type Healed = { readonly ms: number; readonly bytes: number };

export const healNode: Row = {
  name: "heal-node",
  title: "cluster: a node that held 2 GB comes back empty",
  runtimes: ["node"],
  async run(context) {
    await using cluster = await startBenchCluster(context.directory);
    const nodeBytes = context.quick ? 128 * MIB : 2 * GIB;
    await fill(cluster.url, nodeBytes * DATA_SHARDS);
    const quiet = await clientLoad(context, cluster.url);
    const during: FlightResult[] = [];
    const bounded = await healEmptied(cluster, "node-2", async (healing) => {
      let isOver = false;
      const over = healing.finally(() => (isOver = true));
      while (!isOver) during.push(await clientLoad(context, cluster.url));
      await over;
    });
    await unboundTrack(cluster.url, "repair");
    const unbounded = await healEmptied(cluster, "node-5", (healing) => healing);
    return judge(context, { quiet, during, bounded, unbounded });
  },
};

async function fill(url: string, bytes: number): Promise<void> {
  const source = randomBytes(OBJECT_BYTES);
  const objects = Math.ceil(bytes / OBJECT_BYTES);
  let next = 0;
  const writer = async () => {
    while (next < objects) {
      await upload(url, { path: `/objects/bulk/${next++}?strategy=ec`, source, bytes: OBJECT_BYTES });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
  const small = randomBytes(CLIENT_BYTES);
  for (let n = 0; n < CLIENT_OBJECTS; n += 1) {
    await putObject(url, `/objects/client/${n}?strategy=ec`, small, "application/octet-stream");
  }
}

/** One write on three reads. */
async function clientLoad(context: RowContext, url: string): Promise<FlightResult> {
  const body = randomBytes(CLIENT_BYTES);
  return await keepInFlight(CLIENT_LANES, context.seconds, async (n) => {
    const path = `/objects/client/${n % CLIENT_OBJECTS}`;
    if (n % 4 === 0) await putObject(url, `${path}?strategy=ec`, body, "application/octet-stream");
    else await download(url, path);
  });
}

/** Wipes a node and asks for its recovery when it is back; the time runs from then on until nothing is missing. */
async function healEmptied(
  cluster: LocalCluster,
  name: string,
  meanwhile: (healing: Promise<void>) => Promise<void>,
): Promise<Healed> {
  const { url } = cluster;
  const node = cluster.member(name);
  const bytes = await readNodeBytes(url, name);
  await node.kill9();
  await wipe(node);
  await node.restart();
  const startedAt = performance.now();
  let ms = 0;
  const heal = async () => {
    await untilSo("a healer that leads", HEAL_MS_MAX, async () => (await readHealing(url)).leader !== null);
    await jobDone(url, await startJob(url, `/cluster/recovery/${name}`), HEAL_MS_MAX);
    await untilSo("full redundancy", HEAL_MS_MAX, async () => (await readHealing(url)).replicationLag === 0);
    ms = performance.now() - startedAt;
  };
  await meanwhile(heal());
  return { ms, bytes };
}

async function wipe(node: ClusterMember): Promise<void> {
  for (const name of await readdir(node.dataDir)) await rm(join(node.dataDir, name), { recursive: true });
}

type Results = {
  readonly quiet: FlightResult;
  readonly during: readonly FlightResult[];
  readonly bounded: Healed;
  readonly unbounded: Healed;
};

function judge(context: RowContext, { quiet, during, bounded, unbounded }: Results): RowResult {
  const p99s = during.map(({ p99Ms }) => p99Ms);
  const slower = median(p99s) / quiet.p99Ms;
  const failed = sum([quiet, ...during].map((flight) => flight.failed));
  const rateOf = ({ bytes, ms }: Healed) => bytes / ms / 1e3;
  const [hashRate, diskRate] = [sha256Rate(context.samples), diskWriteRate(context.directory, context.samples)];
  const bound = Math.min(hashRate, diskRate) / MB;
  return {
    measured: [
      { label: "the node held", value: bounded.bytes / MB, unit: "MB" },
      { label: "mended, clients at work", value: bounded.ms, unit: "ms" },
      { label: "rebuilt, clients at work", value: rateOf(bounded), unit: "MB/s" },
      { label: "mended, unbounded", value: unbounded.ms, unit: "ms" },
      { label: "rebuilt, unbounded", value: rateOf(unbounded), unit: "MB/s" },
      { label: "of the bound", value: (100 * rateOf(unbounded)) / bound, unit: "%" },
      { label: "client p99 during repair", value: median(p99s), unit: "ms", samples: p99s },
      { label: "of quiet", value: slower, unit: "×" },
    ],
    yardsticks: [
      { label: "client p99, quiet", value: quiet.p99Ms, unit: "ms" },
      { label: "SHA-256, one thread", value: hashRate / MB, unit: "MB/s" },
      { label: "disk write with fsync", value: diskRate / MB, unit: "MB/s" },
    ],
    aims: [
      { text: `client p99 ≤ ${SLOWER_MAX}× quiet`, met: slower <= SLOWER_MAX },
      { text: "every request succeeds", met: failed === 0 },
    ],
    notes: context.quick ? ["quick: a sixteenth of the bytes"] : [],
  };
}

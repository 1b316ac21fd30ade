/** Reads with one of six nodes stopped by SIGSTOP: it still accepts connections and never answers. */
import { randomBytes } from "node:crypto";
import { startBenchCluster } from "../cluster-process.ts";
import { keepInFlight, type FlightResult } from "../in-flight.ts";
import type { Row, RowContext, RowResult } from "../row.ts";
import { putObject, readDataNodes } from "../store-client.ts";
import { download } from "../transfer.ts";
import { KIB, MIB } from "../../src/lib/bytes.ts";

const SIZES = [
  { label: "1 KiB", bytes: KIB, strategy: "replication", clients: 16, objects: 64 },
  { label: "16 MiB", bytes: 16 * MIB, strategy: "ec", clients: 2, objects: 4 },
] as const;
/** The aim holds after this: the cluster has noticed by then. */
const NOTICE_SECONDS = 5;

export const clusterSlowNode: Row = {
  name: "cluster-slow-node",
  title: "cluster: GET with one node stopped (SIGSTOP)",
  runtimes: ["node"],
  async run(context) {
    await using cluster = await startBenchCluster(context.directory);
    const { url } = cluster;
    for (const { label, bytes, strategy, objects } of SIZES) {
      for (let n = 0; n < objects; n++) {
        const path = `/objects/${pathOf(label)}/${n}?strategy=${strategy}`;
        await putObject(url, path, randomBytes(bytes), "application/octet-stream");
      }
    }
    const healthy = await measureSizes(context, url);
    // The node of the first data shard of a large object, so that reads do miss it.
    const [name] = await readDataNodes(url, `/objects/${pathOf("16 MiB")}/0`);
    const node = cluster.nodes.find((candidate) => candidate.name === name);
    if (node === undefined) throw new Error(`There is no node ${name}`);
    node.pause();
    const noticing = await measureSizes({ ...context, seconds: NOTICE_SECONDS / SIZES.length }, url);
    const stopped = await measureSizes(context, url);
    node.resume();
    return judge(healthy, noticing, stopped);
  },
};

function pathOf(label: string): string {
  return label.replace(" ", "-").toLowerCase();
}

async function measureSizes(context: RowContext, url: string): Promise<FlightResult[]> {
  const results: FlightResult[] = [];
  for (const { label, clients, objects } of SIZES) {
    const work = (n: number) => download(url, `/objects/${pathOf(label)}/${n % objects}`);
    results.push(await keepInFlight(clients, context.seconds, work));
  }
  return results;
}

function judge(healthy: FlightResult[], noticing: FlightResult[], stopped: FlightResult[]): RowResult {
  const at = (results: FlightResult[], index: number) => results[index] as FlightResult;
  return {
    measured: SIZES.flatMap(({ label }, index) => [
      { label: `${label} p99, healthy`, value: at(healthy, index).p99Ms, unit: "ms" },
      { label: `${label} p99, first ${NOTICE_SECONDS} s`, value: at(noticing, index).p99Ms, unit: "ms" },
      { label: `${label} p99, stopped`, value: at(stopped, index).p99Ms, unit: "ms" },
      {
        label: `${label} rate of healthy`,
        value: at(stopped, index).perSecond / at(healthy, index).perSecond,
        unit: "×",
      },
    ]),
    yardsticks: [],
    aims: [
      ...SIZES.map(({ label }, index) => ({
        text: `${label}: p99 ≤ 2× healthy`,
        met: at(stopped, index).p99Ms <= 2 * at(healthy, index).p99Ms,
      })),
      {
        text: "every request succeeds",
        met: [...healthy, ...noticing, ...stopped].every(({ failed }) => failed === 0),
      },
    ],
    notes: [],
  };
}

/** Row 7: what 200 telemetry documents take on the nodes, per strategy. */
import { join } from "node:path";
import type { Figure, Row, RowContext } from "../row.ts";
import { startStore } from "../server-process.ts";
import { sum } from "../statistics.ts";
import { diskBytes, getBytes, putObject, readUsage } from "../store-client.ts";
import { telemetryDocument } from "../../test/support/telemetry.ts";

const STRATEGIES = [
  { strategy: "replication", overheadMax: 3.005 },
  { strategy: "ec", overheadMax: 1.51 },
  { strategy: "field_hybrid", overheadMax: 1.52 },
] as const;

type Overhead = {
  readonly payload: number;
  readonly nodeFiles: number;
  readonly otherFiles: number;
  readonly intact: boolean;
};

export const overhead: Row = {
  name: "overhead",
  title: "storage overhead, 800 KB telemetry × 200",
  runtimes: ["node"],
  async run(context) {
    const count = context.quick ? 20 : 200;
    const figures: Figure[] = [];
    const aims: { text: string; met: boolean }[] = [];
    for (const { strategy, overheadMax } of STRATEGIES) {
      const found = await measure(context, strategy, count);
      figures.push(
        { label: `${strategy}, payload`, value: found.payload, unit: "×" },
        { label: `${strategy}, LMDB files of the nodes`, value: found.nodeFiles, unit: "×" },
        { label: `${strategy}, metadata and WAL files`, value: found.otherFiles, unit: "×" },
      );
      aims.push({
        text: `${strategy} ≤ ${overheadMax.toFixed(2)}×, identical`,
        met: found.payload <= overheadMax && found.intact,
      });
    }
    return { measured: figures, yardsticks: [], aims, notes: [`${count} documents per strategy`] };
  },
};

async function measure(context: RowContext, strategy: string, count: number): Promise<Overhead> {
  const directory = join(context.directory, strategy);
  const store = await startStore(context.runtime, directory);
  const documents = Array.from({ length: count }, (_, seed) => telemetryDocument({ seed }));
  for (const [seed, body] of documents.entries()) {
    await putObject(store.url, `/objects/t/${seed}?strategy=${strategy}`, body, "application/json");
  }
  const last = documents.at(-1) ?? Buffer.alloc(0);
  const intact = last.equals(await getBytes(store.url, `/objects/t/${count - 1}`));
  const { liveBytes } = await readUsage(store.url);
  const nodeFiles = await diskBytes(join(directory, "nodes"));
  const allFiles = await diskBytes(directory);
  await store.stop();
  const contentBytes = sum(documents.map((body) => body.length));
  return {
    payload: liveBytes / contentBytes,
    nodeFiles: nodeFiles / contentBytes,
    otherFiles: (allFiles - nodeFiles) / contentBytes,
    intact,
  };
}

/** `kintsugi node list`, `drain`, `undrain`, `remove`: what operators do with nodes. */
import { formatBytes } from "../lib/bytes.ts";
import { fieldsOf, type Fields } from "./cluster-map.ts";
import { CliError, EXIT, type ExitCode } from "./exit.ts";
import { displayText, formatTable, writeLine, type CliIo } from "./io.ts";
import { withOperator, type OperatorClient, type OperatorOptions } from "./operator.ts";
import { startWorkProgress } from "./work-progress.ts";

const POLL_MS = 1_000;

/** `kintsugi node list` */
export async function runNodeList(io: CliIo, options: OperatorOptions): Promise<ExitCode> {
  const nodes = await withOperator(io, options, listNodes);
  const lines = options.json
    ? nodes.map((node) => JSON.stringify(node))
    : formatTable([["NODE", "STATE", "PLACE", "WEIGHT", "BLOBS", "STORED", "DISK FREE"], ...nodes.map(nodeRow)]);
  for (const line of lines) await writeLine(io.stdout, line);
  return EXIT.ok;
}

export type DrainOptions = OperatorOptions & { readonly wait: boolean };

/** `kintsugi node drain N`: with `wait` until nothing is left on it. Ctrl-C ends only the waiting. */
export async function runNodeDrain(io: CliIo, node: string, options: DrainOptions): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    await client.drain(node, true);
    if (options.wait) await untilEmpty(io, client, node);
    const told = options.wait ? "is empty" : "drains: it takes no new blobs, and what it holds moves to others";
    await writeLine(
      io.stdout,
      options.json ? JSON.stringify({ node, draining: true }) : `${displayText(node)} ${told}`,
    );
    return EXIT.ok;
  });
}

/** `kintsugi node undrain N` */
export async function runNodeUndrain(io: CliIo, node: string, options: OperatorOptions): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    await client.drain(node, false);
    const told = `${displayText(node)} takes new blobs again`;
    await writeLine(io.stdout, options.json ? JSON.stringify({ node, draining: false }) : told);
    return EXIT.ok;
  });
}

/** `kintsugi node remove N` */
export async function runNodeRemove(io: CliIo, node: string, options: OperatorOptions): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    await client.remove(node);
    const told = `${displayText(node)} is removed`;
    await writeLine(io.stdout, options.json ? JSON.stringify({ node, removed: true }) : told);
    return EXIT.ok;
  });
}

/** A node is empty when the leader has looked through all of it and found nothing that a record names. */
async function untilEmpty(io: CliIo, client: OperatorClient, node: string): Promise<void> {
  const bar = startWorkProgress(io, `drain of ${displayText(node)}`);
  try {
    for (let most = 0; ;) {
      const { state, usage } = (await listNodes(client)).find(({ name }) => name === node) ?? {};
      if (state === "down" || state === "gone") {
        const message = `${displayText(node)} is ${state}: it is not known what is left on it`;
        throw new CliError(EXIT.unavailable, "node_unavailable", message);
      }
      const { tracks } = await client.healing();
      const left = tracks.find(({ track }) => track === "balance")?.figures[`left.${node}`];
      if (left === 0) return;
      const { blobCount } = fieldsOf(usage);
      if (typeof blobCount === "number") {
        most = Math.max(most, blobCount);
        await bar.show(most - blobCount, most, "blobs moved");
      }
      await io.clock.sleep(POLL_MS, io.signal);
      if (io.signal.aborted) throw new CliError(EXIT.interrupted, "interrupted", "Stopped waiting; the node drains on");
    }
  } finally {
    bar.stop();
  }
}

async function listNodes(client: OperatorClient): Promise<Fields[]> {
  const { nodes } = fieldsOf(await client.stats());
  return Array.isArray(nodes) ? nodes.map(fieldsOf) : [];
}

function nodeRow({ name, state, region, zone, weight, usage }: Fields): string[] {
  const { blobCount, liveBytes, diskFreeBytes } = fieldsOf(usage);
  const text = (value: unknown) =>
    displayText(typeof value === "string" || typeof value === "number" ? String(value) : "-");
  const size = (value: unknown) => (typeof value === "number" ? formatBytes(value) : "-");
  const place = `${text(region)}/${text(zone)}`;
  return [text(name), text(state), place, text(weight), text(blobCount), size(liveBytes), size(diskFreeBytes)];
}

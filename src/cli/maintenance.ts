import type { Config } from "../config.ts";
import { formatBytes } from "../lib/bytes.ts";
import { configOf, type ConfigOptions } from "./config-commands.ts";
import { EXIT, usageError, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { startWorkProgress } from "./work-progress.ts";

/** What a rebuild did, or would do. */
export type RebuildSummary = {
  readonly nodes: number;
  readonly blobs: number;
  readonly objects: number;
  readonly objectBytes: number;
  readonly tombstones: number;
  readonly dirty: number;
  readonly passedOver: number;
  readonly unidentified: number;
  readonly unreadable: readonly string[];
  readonly unreadableCount: number;
};

/** What a look at a node's volumes found. */
export type NodeSummary = {
  readonly node: string;
  readonly volumes: number;
  readonly blobs: number;
  readonly payloadBytes: number;
  /** Begun and never sealed; the next start sweeps them. */
  readonly unsealed: number;
  /** Set aside by an earlier start. */
  readonly quarantined: number;
  readonly unsound: readonly { readonly name: string; readonly reason: string }[];
  readonly damagedBlobs: number;
  /** The first of them. */
  readonly damages: readonly { readonly id: string; readonly cellIndex: number | null; readonly reason: string }[];
};

export type RebuildCall = {
  /** Of a cluster how many nodes it has; null for a store in one process. */
  readonly nodes: number | null;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly onProgress: (done: number, total: number | null, unit: string) => void;
};

/** What is done to stored data while no store runs on it. */
export type Maintenance = {
  rebuildMetadata(config: Config, call: RebuildCall): Promise<RebuildSummary>;
  /** Of a node, or of all nodes of a store in one process. */
  checkNodes(dataDir: string, onProgress: RebuildCall["onProgress"]): Promise<readonly NodeSummary[]>;
};

export type RebuildOptions = ConfigOptions & {
  readonly cluster: boolean;
  readonly nodes: string | null;
  readonly dryRun: boolean;
  readonly force: boolean;
  readonly json: boolean;
};

/** `kintsugi rebuild-metadata` */
export async function runRebuild(io: CliIo, options: RebuildOptions, maintenance: Maintenance): Promise<ExitCode> {
  const { dryRun, force } = options;
  const nodes = nodesOf(options);
  const progress = startWorkProgress(io, "rebuilding");
  try {
    const onProgress = (done: number, total: number | null, unit: string) => void progress.show(done, total, unit);
    const summary = await maintenance.rebuildMetadata(configOf(options), { nodes, dryRun, force, onProgress });
    progress.stop();
    await writeLine(io.stdout, options.json ? JSON.stringify(summary) : describe(summary, dryRun).join("\n"));
    return summary.unreadableCount === 0 && summary.unidentified === 0 ? EXIT.ok : EXIT.damaged;
  } finally {
    progress.stop();
  }
}

function nodesOf({ cluster, nodes }: RebuildOptions): number | null {
  if (!cluster) {
    if (nodes !== null) throw usageError("--nodes is of a cluster: say --cluster too");
    return null;
  }
  if (nodes === null || !/^[1-9]\d{0,4}$/.test(nodes)) {
    throw usageError("Say how many nodes the cluster has, as in --nodes 6: what only others hold would be left out");
  }
  return Number(nodes);
}

function describe(summary: RebuildSummary, dryRun: boolean): string[] {
  const { nodes, blobs, objects, objectBytes, tombstones, dirty, passedOver, unidentified } = summary;
  const lines = [
    `${dryRun ? "Would rebuild" : "Rebuilt"} ${objects} objects (${formatBytes(objectBytes)}) and ${tombstones} deletes from ${blobs} blobs on ${nodes} nodes`,
  ];
  if (dirty > 0) lines.push(`${dirty} of them lack blobs, which the store mends when it runs`);
  if (passedOver > 0) lines.push(`${passedOver} newer states were left out: too little of them is there to read them`);
  if (unidentified > 0) lines.push(`Of ${unidentified} sets of blobs nobody can tell whose they are`);
  if (summary.unreadableCount > 0) {
    lines.push(`Of ${summary.unreadableCount} objects too little is there to read them:`);
    lines.push(...summary.unreadable.map((name) => `  ${displayText(name)}`));
  }
  return lines;
}

/** `kintsugi fsck DIR` */
export async function runFsck(io: CliIo, dir: string, json: boolean, maintenance: Maintenance): Promise<ExitCode> {
  const progress = startWorkProgress(io, "checking");
  try {
    const onProgress = (done: number, total: number | null, unit: string) => void progress.show(done, total, unit);
    const nodes = await maintenance.checkNodes(dir, onProgress);
    progress.stop();
    const lines = nodes.flatMap((node) => (json ? [JSON.stringify(node)] : describeNode(node)));
    await writeLine(io.stdout, lines.join("\n"));
    const isWhole = nodes.every(({ damagedBlobs, unsound }) => damagedBlobs === 0 && unsound.length === 0);
    return isWhole ? EXIT.ok : EXIT.damaged;
  } finally {
    progress.stop();
  }
}

function describeNode(summary: NodeSummary): string[] {
  const { node, volumes, blobs, payloadBytes, unsealed, quarantined, unsound, damages, damagedBlobs } = summary;
  const verdict = damagedBlobs === 0 && unsound.length === 0 ? "whole" : "DAMAGED";
  const lines = [`${node}  ${verdict}: ${blobs} blobs, ${formatBytes(payloadBytes)}, in ${volumes} volumes`];
  if (unsealed > 0) lines.push(`  ${unsealed} blobs were never finished; the next start sweeps them`);
  if (quarantined > 0) lines.push(`  ${quarantined} volumes were set aside earlier`);
  for (const { name, reason } of unsound) lines.push(`  volume ${name}: ${reason}`);
  for (const { id, cellIndex, reason } of damages) {
    lines.push(`  ${id}${cellIndex === null ? "" : ` cell ${cellIndex}`}: ${reason}`);
  }
  if (damagedBlobs > damages.length) lines.push(`  ... ${damagedBlobs} damaged blobs in all`);
  return lines;
}

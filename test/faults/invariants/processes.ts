/** I7: what processes take of memory and files, before the faults and after them. Linux only: elsewhere nothing is known. */
import { readdirSync, readFileSync } from "node:fs";
import type { LocalCluster } from "../../support/cluster.ts";

export type Footprint = { readonly rssBytes: number; readonly files: number };

const MIB = 1_048_576;
/** Caches fill and heaps grow a little; what leaks does not stop at this. */
const RSS_FACTOR_MAX = 2;
const RSS_BYTES_MORE = 256 * MIB;
const FILES_FACTOR_MAX = 2;
const FILES_MORE = 200;

/** Of every process that runs, by name. */
export function footprints(cluster: LocalCluster): Map<string, Footprint> {
  const known = new Map<string, Footprint>();
  for (const { name, pid } of cluster.members) {
    const footprint = pid === 0 ? null : footprintOf(pid);
    if (footprint !== null) known.set(name, footprint);
  }
  return known;
}

function footprintOf(pid: number): Footprint | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    return { rssBytes: Number(kib ?? 0) * 1_024, files: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return null;
  }
}

export function compareFootprints(
  before: ReadonlyMap<string, Footprint>,
  after: ReadonlyMap<string, Footprint>,
): string[] {
  return [...after].flatMap(([name, { rssBytes, files }]) => {
    const base = before.get(name);
    if (base === undefined) return [];
    const problems: string[] = [];
    if (rssBytes > base.rssBytes * RSS_FACTOR_MAX + RSS_BYTES_MORE) {
      problems.push(`I7: ${name} takes ${mib(rssBytes)} of memory, and took ${mib(base.rssBytes)} at first`);
    }
    if (files > base.files * FILES_FACTOR_MAX + FILES_MORE) {
      problems.push(`I7: ${name} has ${files} files open, and had ${base.files} at first`);
    }
    return problems;
  });
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}

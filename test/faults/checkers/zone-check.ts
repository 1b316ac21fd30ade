/**
 * Linearizability of puts and reads with a value of its own for every put, after Gibbons and Korach ("Testing shared
 * memories", 1997): in n log n, for any number of clients.
 *
 * All operations on one value, its put and its reads, stand together in any order of events. From the first end among
 * them to the last start the register certainly holds the value: a *forward zone*, of which no two may overlap. Where
 * all of them overlap each other they fit into a single moment between the last start and the first end, the *backward
 * zone*, which must not lie inside a forward zone.
 */
import { describeOperation, type Operation, type State, type Verdict } from "./register.ts";

type Zone = { readonly from: number; readonly to: number; readonly cluster: Cluster };
type Cluster = { readonly value: State; put: Operation | null; readonly reads: Operation[] };

/** Only for histories of unconditional puts and of reads. The register is absent at first, and never again. */
export function checkZones(operations: readonly Operation[]): Verdict {
  const clusters = clustersOf(operations);
  if (!Array.isArray(clusters)) return clusters;
  const forward: Zone[] = [];
  const backward: Zone[] = [];
  for (const cluster of clusters) {
    const { put, reads } = cluster;
    const early = put === null ? undefined : reads.find(({ endMs }) => endMs < put.startMs);
    if (early !== undefined) return contradiction("was read before it was put", [cluster]);
    // What nobody has read may never have happened.
    if (reads.length === 0 && (put === null || put.endMs === Number.POSITIVE_INFINITY)) continue;
    const firstEnd = Math.min(put?.endMs ?? Number.NEGATIVE_INFINITY, ...reads.map(({ endMs }) => endMs));
    const lastStart = Math.max(put?.startMs ?? Number.NEGATIVE_INFINITY, ...reads.map(({ startMs }) => startMs));
    if (firstEnd < lastStart) forward.push({ from: firstEnd, to: lastStart, cluster });
    else backward.push({ from: lastStart, to: firstEnd, cluster });
  }
  forward.sort((a, b) => a.from - b.from);
  for (let index = 1; index < forward.length; index += 1) {
    const [before, zone] = forward.slice(index - 1, index + 1) as [Zone, Zone];
    if (zone.from < before.to) return contradiction("were both current at one time", [before.cluster, zone.cluster]);
  }
  for (const zone of backward) {
    const around = lastBefore(forward, zone.from);
    if (around !== null && zone.to < around.to) {
      return contradiction("was put and gone while another was current all the time", [zone.cluster, around.cluster]);
    }
  }
  return { ok: true };
}

function clustersOf(operations: readonly Operation[]): Cluster[] | Verdict {
  const clusters = new Map<State, Cluster>([[null, { value: null, put: null, reads: [] }]]);
  const clusterOf = (value: State) => {
    const known = clusters.get(value) ?? { value, put: null, reads: [] };
    clusters.set(value, known);
    return known;
  };
  for (const operation of operations) {
    const { action } = operation;
    if (action.kind === "put" && action.condition === null) {
      const cluster = clusterOf(action.value);
      if (cluster.put !== null) throw new Error(`${action.value} is put twice: ${describeOperation(operation)}`);
      cluster.put = operation;
    } else if (action.kind === "read") clusterOf(action.value).reads.push(operation);
    else throw new Error(`Not a register of puts and reads alone: ${describeOperation(operation)}`);
  }
  const unborn = [...clusters.values()].find(({ value, put, reads }) => value !== null && put === null && reads.length);
  return unborn === undefined ? [...clusters.values()] : contradiction("was read and never put", [unborn]);
}

/** Zones do not overlap: only the last that begins before this time can reach over it. */
function lastBefore(zones: readonly Zone[], time: number): Zone | null {
  let low = 0;
  for (let high = zones.length; low < high;) {
    const middle = (low + high) >> 1;
    if ((zones[middle] as Zone).from < time) low = middle + 1;
    else high = middle;
  }
  return zones[low - 1] ?? null;
}

function contradiction(what: string, clusters: readonly Cluster[]): Verdict & { ok: false } {
  const operations = clusters.flatMap(({ put, reads }) => {
    const lastStarted = reads.toSorted((a, b) => b.startMs - a.startMs)[0];
    const firstEnded = reads.toSorted((a, b) => a.endMs - b.endMs)[0];
    return [...new Set([put, firstEnded, lastStarted])].filter((operation) => operation != null);
  });
  const values = clusters.map(({ value }) => value ?? "absent").join(" and ");
  return { ok: false, reason: `${values} ${what}`, operations };
}

/** When a loss of redundancy begins and ends. Pure. */
import type { Incident } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";

/** What an audit that covered them found for incidents. */
export type AuditedLosses = {
  /** Blobs that lack on a node that can be read, or, of one that was given up, that no other has yet. */
  readonly lacking: number;
  readonly lackingOf: (node: NodeName) => number;
  /** Null: all nodes were looked at. */
  readonly node: NodeName | null;
};

/** Those of `incidents` that are over by what an audit found, as they are then. Only such as were noticed before it began. */
export function endIncidents(
  incidents: readonly Incident[],
  found: AuditedLosses,
  repairMsOf: (incident: Incident) => number,
): Incident[] {
  return incidents.flatMap((incident) => {
    if (incident.repairMs !== null) return [];
    // An audit of one node says nothing of the others.
    if (found.node !== null && found.node !== incident.node) return [];
    const lacking = incident.node === null ? found.lacking : found.lackingOf(incident.node);
    return lacking === 0 ? [{ ...incident, repairMs: Math.max(0, Math.round(repairMsOf(incident))) }] : [];
  });
}

/** The mean over incidents that are over; null while none is. */
export function meanRepairMs(incidents: readonly Incident[]): number | null {
  const times = incidents.flatMap(({ repairMs }) => (repairMs === null ? [] : [repairMs]));
  return times.length === 0 ? null : times.reduce((sum, ms) => sum + ms, 0) / times.length;
}

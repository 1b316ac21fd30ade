/** When a loss of redundancy begins and ends. Pure. */
import type { Incident, Loss } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";

/** What an audit found for incidents. */
export type AuditedLosses = {
  /** On a node that can be read, or, of one that was given up, what no other has yet; null: everywhere. */
  readonly lossOf: (node: NodeName | null) => Loss;
  /** Null: all nodes were looked at. */
  readonly node: NodeName | null;
  /** It has not seen everything: what it did not find may lack all the same. */
  readonly again: boolean;
};

/** Those of `incidents` that an audit changes, as they are then: over, or larger than was known. Only such as were noticed before it began. */
export function auditedIncidents(
  incidents: readonly Incident[],
  { lossOf, node, again }: AuditedLosses,
  repairMsOf: (incident: Incident) => number,
): Incident[] {
  return incidents.flatMap((incident) => {
    if (incident.repairMs !== null) return [];
    // An audit of one node says nothing of the others.
    if (node !== null && node !== incident.node) return [];
    const { blobs, objects, bytes } = lossOf(incident.node);
    if (blobs === 0) return again ? [] : [{ ...incident, repairMs: Math.max(0, Math.round(repairMsOf(incident))) }];
    if (objects <= incident.objects && bytes <= incident.bytes) return [];
    return [{ ...incident, objects: Math.max(objects, incident.objects), bytes: Math.max(bytes, incident.bytes) }];
  });
}

/** The mean over incidents that are over; null while none is. */
export function meanRepairMs(incidents: readonly Incident[]): number | null {
  const times = incidents.flatMap(({ repairMs }) => (repairMs === null ? [] : [repairMs]));
  return times.length === 0 ? null : times.reduce((sum, ms) => sum + ms, 0) / times.length;
}

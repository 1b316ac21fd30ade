import { KEPT_COPIES } from "../domain/kept-record.ts";
import type { BlobInfo } from "../domain/blob.ts";
import type { NodeName } from "../domain/ids.ts";
import { parseBlobId } from "../domain/ids.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import type { MendReason, Urgency, Work } from "../domain/work.ts";
import { BLOBS_PER_WORK_MAX } from "../domain/work.ts";
import type { SetEntry } from "./lmdb-audit-scratch.ts";

/** A blob as its node's inventory tells of it. */
export type HeldBlob = { readonly node: NodeName; readonly info: BlobInfo };

/** One blob set with all that is known of it: what records say, and what nodes have. */
export type AuditGroup = {
  readonly name: string;
  readonly entries: readonly SetEntry[];
  readonly held: readonly HeldBlob[];
};

export type AuditView = {
  /** `asked`: its inventory is part of this audit. `unasked`: it is not, and nothing is concluded about it. `away`: it cannot be asked. `lost`: given up. */
  standingOf(node: NodeName): "asked" | "unasked" | "away" | "lost";
  /** How many nodes take part in the cluster. */
  readonly nodeCount: number;
};

export type LackingBlob = { readonly node: NodeName | null; readonly bytes: number };

export type GroupFindings = {
  readonly work: readonly Work[];
  /** Blobs that a record plans and nobody has, by the node that should; null where none was ever named. */
  readonly lacking: readonly LackingBlob[];
  /** Blobs on nodes that are only away. */
  readonly awayCount: number;
  /** Blobs that no record names where they are. */
  readonly orphans: readonly PlacedBlob[];
};

/**
 * What follows from one set, by record and node:
 *
 * | the record names …     | the node …                  | then                                        |
 * |------------------------|-----------------------------|---------------------------------------------|
 * | no node                |                             | lacking: mend, dirty                        |
 * | a node                 | has it, of the right size   | well                                        |
 * | a node                 | lacks it, or has another    | lacking: mend, missing                      |
 * | a node                 | is lost                     | lacking: mend, node_lost                    |
 * | a node                 | is away, or was not asked   | nothing: silence proves nothing             |
 * | nothing of the kind    | has it                      | an orphan, as far as this audit can see     |
 *
 * Kept records may lie on any nodes, as long as there are enough of them.
 */
export function judgeGroup({ entries, held }: AuditGroup, view: AuditView): GroupFindings {
  const lacking: LackingBlob[] = [];
  const work: Work[] = [];
  const claimed = new Set<HeldBlob>();
  let awayCount = 0;
  for (const entry of entries) {
    if (entry.nodes === null) {
      for (const blob of held) claimed.add(blob);
      const enough = Math.min(KEPT_COPIES, view.nodeCount);
      if (new Set(held.map(({ node }) => node)).size < enough && view.nodeCount > 0) work.push(keepRecord(entry));
      continue;
    }
    const judged = judgeEntry(entry, entry.nodes, held, view);
    for (const blob of judged.claimed) claimed.add(blob);
    lacking.push(...judged.lacking);
    awayCount += judged.awayCount;
    if (judged.work !== null) work.push(judged.work);
  }
  const orphans = held.filter((blob) => !claimed.has(blob)).map(({ node, info }) => ({ id: info.id, node }));
  return { work, lacking, awayCount, orphans };
}

function judgeEntry(entry: SetEntry, nodes: readonly (NodeName | null)[], held: readonly HeldBlob[], view: AuditView) {
  const lacking: LackingBlob[] = [];
  const bytes = entry.payloadBytes;
  const claimed: HeldBlob[] = [];
  const reasons = new Set<MendReason>();
  let awayCount = 0;
  for (const [index, node] of nodes.entries()) {
    const found = held.find((blob) => blob.node === node && parseBlobId(blob.info.id)?.index === index);
    // Its content may be short, but it is what the record means.
    if (found !== undefined) claimed.push(found);
    if (node === null) {
      reasons.add("dirty");
      lacking.push({ node, bytes });
      continue;
    }
    const standing = view.standingOf(node);
    if (standing === "unasked") continue;
    if (standing === "away") awayCount += 1;
    else if (standing === "lost" || found === undefined || !isOfEntry(found.info, entry)) {
      reasons.add(standing === "lost" ? "node_lost" : "missing");
      lacking.push({ node, bytes });
    }
  }
  const left = nodes.length - lacking.length - awayCount;
  // Further copies can be done without.
  const urgency = entry.needed === 0 ? 2 : urgencyOf(left - entry.needed);
  const [reason] = (["node_lost", "missing", "dirty"] as const).filter((one) => reasons.has(one));
  const { bucket, key } = entry;
  const work: Work | null = reason === undefined ? null : { kind: "mend", urgency, reason, suspects: [], bucket, key };
  return { lacking, claimed, awayCount, work };
}

function isOfEntry(info: BlobInfo, { cellCount, payloadBytes }: SetEntry): boolean {
  return info.cellCount === cellCount && info.payloadBytes === payloadBytes;
}

/** By how many more nodes the set can lose. */
export function urgencyOf(spare: number): Urgency {
  return spare <= 0 ? 0 : spare === 1 ? 1 : 2;
}

function keepRecord({ bucket, key, version }: SetEntry): Work {
  return { kind: "keep_record", urgency: 2, bucket, key, version };
}

/** Blobs that may be nobody's, as work for whoever looks closer: those of one node together. */
export function collectWorks(orphans: readonly PlacedBlob[]): Work[] {
  return [...Map.groupBy(orphans, ({ node }) => node)].flatMap(([node, blobs]) => {
    const works: Work[] = [];
    for (let from = 0; from < blobs.length; from += BLOBS_PER_WORK_MAX) {
      works.push({ kind: "collect", urgency: 2, node, blobs: blobs.slice(from, from + BLOBS_PER_WORK_MAX) });
    }
    return works;
  });
}

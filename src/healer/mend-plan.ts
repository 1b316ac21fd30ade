import type { BucketName, NodeName, ObjectKey } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { blobsNeeded } from "../domain/manifest.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import { rankNodes } from "../placement/rank-nodes.ts";

/** What was found of one blob of a set. */
export type BlobLook = {
  /** As the record says; null where the blob was never stored. */
  readonly node: NodeName | null;
  /**
   * whole: it is there, and nothing is known against it. damaged: it is there, and its cells `damagedCells` are bad. missing:
   * its node says that it has no readable blob of that id. away: its node cannot be asked now. lost: its node was
   * given up. none: the record names no node.
   */
  readonly condition: "whole" | "damaged" | "missing" | "away" | "lost" | "none";
  readonly damagedCells: readonly number[];
  /** Other nodes that hold it, whole as far as known. */
  readonly strays: readonly NodeName[];
};

export type SetLook = { readonly set: BlobSet; readonly blobs: readonly BlobLook[] };

/** What is done about one blob. */
export type BlobMend =
  | { readonly action: "keep" }
  /** The record is to name a node that has it already. */
  | { readonly action: "adopt"; readonly node: NodeName }
  /** Bad cells are overwritten where they are. */
  | { readonly action: "mend_cells"; readonly node: NodeName; readonly cells: readonly number[] }
  /** It is made from the others, on `node`. */
  | { readonly action: "rebuild"; readonly node: NodeName }
  /** Nothing can be done now: its node may come back, or no node is free to take it. */
  | { readonly action: "wait"; readonly for: "its node" | "a free node" };

export type SetMend = {
  readonly set: BlobSet;
  readonly blobs: readonly BlobMend[];
  /** Whether enough blobs are there to make others from: now, when a node comes back that is only away, or never again. */
  readonly source: "enough" | "away" | "lost";
};

/**
 * What to do about the blobs of one set, so that each is whole on a node of its own again:
 *
 * | the blob is …                                | a whole one is on another node | then                                            |
 * |----------------------------------------------|--------------------------------|-------------------------------------------------|
 * | whole where the record says                  |                                | keep                                            |
 * | damaged there                                |                                | mend its cells in place                         |
 * | on a node that is only away                  |                                | wait for it: what it holds is not lost          |
 * | missing, on a lost node, or never stored     | yes, none of the set otherwise | adopt that one                                  |
 * | missing, on a lost node, or never stored     | no                             | rebuild: on its own node if that is live, else on the best free one |
 *
 * A node is free when it is live and holds, or may hold, no other blob of the set: two on one node would be lost together.
 */
export function planSetMend(
  look: SetLook,
  { nodes, key }: { readonly nodes: readonly NodeInfo[]; readonly key: string },
): SetMend {
  const { set, blobs } = look;
  const taken = new Set(blobs.flatMap(({ node, condition }) => (node !== null && isThere(condition) ? [node] : [])));
  const live = rankNodes(
    nodes.filter(({ state }) => state === "live"),
    key,
  ).map(({ name }) => name);
  const take = (candidates: readonly NodeName[]): NodeName | null => {
    const node = candidates.find((candidate) => !taken.has(candidate)) ?? null;
    if (node !== null) taken.add(node);
    return node;
  };
  // Those that are there already come first, so that no rebuilt blob takes their place.
  const adopted = blobs.map(({ condition, strays }) => (isThere(condition) ? null : take(strays)));
  const mends = blobs.map((blob, index): BlobMend => {
    const stray = adopted[index] ?? null;
    if (stray !== null) return { action: "adopt", node: stray };
    switch (blob.condition) {
      case "whole":
        return { action: "keep" };
      case "damaged":
        return { action: "mend_cells", node: blob.node as NodeName, cells: blob.damagedCells };
      case "away":
        return { action: "wait", for: "its node" };
      case "missing":
      case "lost":
      case "none": {
        const own = live.filter((name) => name === blob.node);
        const node = take([...own, ...live]);
        return node === null ? { action: "wait", for: "a free node" } : { action: "rebuild", node };
      }
    }
  });
  return { set, blobs: mends, source: sourceOf(set, mends) };
}

function sourceOf({ redundancy }: BlobSet, mends: readonly BlobMend[]): SetMend["source"] {
  const needed = blobsNeeded(redundancy);
  const readable = mends.filter(({ action }) => action === "keep" || action === "adopt" || action === "mend_cells");
  if (readable.length >= needed) return "enough";
  const away = mends.filter((mend) => mend.action === "wait" && mend.for === "its node");
  return readable.length + away.length >= needed ? "away" : "lost";
}

/** What placement hashes for an object, so that mending prefers the nodes that its write preferred. */
export function placementKeyOf({ bucket, key }: { readonly bucket: BucketName; readonly key: ObjectKey }): string {
  return `${bucket}/${key}`;
}

function isThere(condition: BlobLook["condition"]): boolean {
  return condition === "whole" || condition === "damaged" || condition === "away";
}

/** The set as the record will name it when all of `mends` are done; those of `failed` are not. */
export function mendedSet({ set, blobs }: SetMend, failed: ReadonlySet<number> = new Set()): BlobSet {
  const nodes = blobs.map((mend, index) => {
    const before = set.nodes[index] ?? null;
    if (failed.has(index)) return before;
    return mend.action === "adopt" || mend.action === "rebuild" ? mend.node : before;
  });
  return { ...set, nodes };
}

/** Where bytes of the set can be read from right now. */
export function sourceSet({ set, blobs }: SetMend): BlobSet {
  const nodes = blobs.map((mend, index) => {
    if (mend.action === "adopt") return mend.node;
    return mend.action === "keep" || mend.action === "mend_cells" ? (set.nodes[index] ?? null) : null;
  });
  return { ...set, nodes };
}

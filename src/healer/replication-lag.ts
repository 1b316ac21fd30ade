import type { NodeMemory } from "../desk/healing-ledger.ts";

export type LagSight = {
  /** Blobs that the last audit found lacking on nodes that can be read; null before the first. */
  readonly lacking: number | null;
  /** Mended since that audit. */
  readonly mended: number;
  /** Pieces of work that wait to mend something: each of them is at least one blob. */
  readonly urgent: number;
  readonly nodes: readonly NodeMemory[];
};

/**
 * Blobs that records plan and no node that can be reached is known to hold. What a node held that is away, or that is
 * back and was not looked at yet, counts as a whole: nobody knows better. A node that was given up counts until an
 * audit has found its blobs elsewhere, which is then part of what lacks.
 */
export function replicationLag({ lacking, mended, urgent, nodes }: LagSight): number | null {
  const unknown = nodes
    .filter(({ awayMs, isLost, isUnverified }) => (awayMs !== null && !isLost) || isUnverified)
    .reduce((sum, { blobCount }) => sum + blobCount, 0);
  if (lacking === null && unknown === 0 && urgent === 0) return null;
  return Math.max(urgent, (lacking ?? 0) - mended) + unknown;
}

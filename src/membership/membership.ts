import type { NodeInfo, NodeState, ProcessInfo } from "../domain/node-info.ts";
import type { NodeName } from "../domain/ids.ts";

/** Who stores blobs and in what state. Snapshots are cheap and immutable. */
export type Membership = {
  /** All known nodes, in a stable order. */
  snapshot(): readonly NodeInfo[];
  /** Every process known, nodes too, by role and name. None where one process is the whole store. */
  processes(): readonly ProcessInfo[];
  /** Tells what a caller has just learnt of a node (it answered full, fenced, not at all, or well again). */
  report(node: NodeName, state: NodeState): void;
  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void;
  close(): Promise<void>;
};

import type { ErrorCode, StoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { NodeState } from "../domain/node-info.ts";
import type { ObjectDeps } from "./deps.ts";

type FailureDeps = Pick<ObjectDeps, "metrics" | "logger" | "membership">;

/** What a failure says about the node; other codes are about one blob. */
const STATE_AFTER: Partial<Record<ErrorCode, NodeState>> = {
  node_full: "full",
  node_fenced: "fenced",
  node_unavailable: "down",
  deadline_exceeded: "down",
};

/** Counts and logs that a node failed, and tells the membership what follows for other requests. */
export function noteNodeFailure(
  deps: FailureDeps,
  node: NodeName,
  blob: BlobId,
  cause: StoreError,
  message: string,
): void {
  deps.metrics.storageErrors.inc({ node, code: cause.code });
  deps.logger.warn({ node, blob, code: cause.code }, message);
  const state = STATE_AFTER[cause.code];
  if (state !== undefined) deps.membership.report(node, state);
}

/** The same for a node that is kept waiting for no longer, though it has not failed. */
export function noteNodeTooSlow(deps: FailureDeps, node: NodeName, blob: BlobId, message: string): void {
  deps.logger.warn({ node, blob }, message);
  deps.membership.report(node, "down");
}

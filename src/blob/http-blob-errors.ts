import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";

/** Nothing came of it: the node was not reached, or broke off what can be asked again. */
export function nodeUnreachable(node: NodeName, action: string, reason: string, cause?: unknown): StoreError {
  return new StoreError("node_unavailable", `Cannot ${action} on node ${node}: ${reason}`, { retriable: true, cause });
}

/** It was sent, and whether it was done nobody can tell: whoever wrote must look for what may be left. */
export function outcomeUnknown(node: NodeName, action: string, reason: string, cause?: unknown): StoreError {
  return new StoreError("deadline_exceeded", `Cannot tell whether node ${node} did ${action}: ${reason}`, {
    retriable: true,
    cause,
  });
}

export function nodeRefused(node: NodeName, reason: string): StoreError {
  return new StoreError("node_refused", `Cannot talk to node ${node}: ${reason}`, { details: { node } });
}

export function clientClosed(node: NodeName, action: string): StoreError {
  return nodeUnreachable(node, action, "its client is closed");
}

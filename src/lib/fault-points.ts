/**
 * Named places in the write protocols where a test may intervene. In production `reach` is `noFaultPoints` and costs
 * one call; a test process replaces it by one that kills the process for real when a chosen step is reached.
 */
export type FaultPoint =
  | "put.parsed"
  | "put.intent-durable"
  | "put.encoded"
  | "put.cell-sent"
  | "put.quorum-durable"
  | "put.committed"
  | "put.settled"
  | "patch.parsed"
  | "patch.committed"
  | "delete.parsed"
  | "delete.committed"
  | "undelete.parsed"
  | "undelete.committed";

export type FaultPoints = { reach(point: FaultPoint): void };

export const noFaultPoints: FaultPoints = { reach() {} };

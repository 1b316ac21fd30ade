import type { WorkKind, WorkOf } from "../domain/work.ts";

export type WorkContext = {
  /** Aborts when the process stops, or has lost the piece to another one: then nothing may be changed any more. */
  readonly signal: AbortSignal;
};

export type WorkOutcome =
  /** Nothing more is to be done about it now. `bytes` were written to nodes for it. */
  | { readonly outcome: "done"; readonly bytes: number }
  /** It cannot be done now, and may be later: a node is away, somebody else was faster. */
  | { readonly outcome: "later"; readonly inMs: number; readonly reason: string };

/**
 * Does one piece of work. It looks at everything anew, since work is a hint; it may be repeated at any time, and by two
 * healers at once, without harm. Operating failures may be thrown: the piece is then tried again later.
 */
export type Executor<Kind extends WorkKind> = (work: WorkOf<Kind>, context: WorkContext) => Promise<WorkOutcome>;

export type Executors = { readonly [Kind in WorkKind]: Executor<Kind> };

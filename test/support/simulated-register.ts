/** Histories of a key that never existed: operations that overlap, each taking effect at one moment between its ends. */
import { stateAfter, type Action, type Operation, type State } from "../faults/checkers/register.ts";
import type { Seeded } from "./load/seeded.ts";

export type HistoryShape = {
  readonly clients: number;
  readonly operations: number;
  /** Only unconditional puts and reads. */
  readonly plain: boolean;
  /** Share of writes whose outcome nobody hears of. */
  readonly unknownShare: number;
};

type Draft = { readonly startMs: number; readonly effectMs: number; readonly endMs: number; readonly client: number };

/** Linearizable by construction. */
export function simulateHistory(random: Seeded, shape: HistoryShape): Operation[] {
  const drafts = draftOperations(random, shape).toSorted((a, b) => a.effectMs - b.effectMs);
  let state: State = null;
  const operations: Operation[] = [];
  for (const [id, draft] of drafts.entries()) {
    const wanted = chooseAction(random, shape, { state, id, seen: operations });
    const isWrite = wanted.kind === "put" || wanted.kind === "delete" || wanted.kind === "patch";
    const isLost = isWrite && random.next() < shape.unknownShare;
    // What nobody hears of may never happen.
    const happens = !isLost || random.next() < 0.5;
    const after = stateAfter(state, wanted);
    const { startMs, endMs } = draft;
    if (isLost) operations.push({ id, startMs, endMs: Number.POSITIVE_INFINITY, action: wanted });
    else operations.push({ id, startMs, endMs, action: after === undefined ? refusalOf(wanted, state) : wanted });
    if (happens && after !== undefined) state = after;
  }
  return operations;
}

function draftOperations(random: Seeded, { clients, operations }: HistoryShape): Draft[] {
  const freeAtMs = Array.from({ length: clients }, () => 0);
  return Array.from({ length: operations }, () => {
    const client = random.between(0, clients - 1);
    const startMs = (freeAtMs[client] as number) + random.next() * 3;
    const endMs = startMs + random.next() * 10;
    freeAtMs[client] = endMs;
    return { client, startMs, endMs, effectMs: startMs + random.next() * (endMs - startMs) };
  });
}

type Moment = { readonly state: State; readonly id: number; readonly seen: readonly Operation[] };

function chooseAction(random: Seeded, { plain }: HistoryShape, { state, id, seen }: Moment): Action {
  const choice = random.next();
  if (choice < 0.45) return { kind: "read", value: state };
  if (plain || choice < 0.65) return { kind: "put", value: `v${id}`, condition: null };
  if (choice < 0.75) return { kind: "delete", condition: null };
  if (choice < 0.8) return { kind: "put", value: `v${id}`, condition: { kind: "absent" } };
  const known = seen.flatMap(({ action }) => (action.kind === "put" ? [action.value] : []));
  const value = random.next() < 0.6 && state !== null ? state : known.length === 0 ? "never" : random.pick(known);
  const condition = { kind: "holds", value } as const;
  return choice < 0.9 ? { kind: "put", value: `v${id}`, condition } : { kind: "delete", condition };
}

/** What a write tells that could not go as it was meant. */
function refusalOf(action: Action, state: State): Action {
  const condition = "condition" in action ? action.condition : null;
  return condition === null ? { kind: "read", value: state } : { kind: "refused", condition };
}

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeOperation, stateAfter, type Operation, type State } from "../../faults/checkers/register.ts";
import { searchOrder } from "../../faults/checkers/search-check.ts";
import { checkZones } from "../../faults/checkers/zone-check.ts";
import { createSeeded, type Seeded } from "../../support/load/seeded.ts";
import { simulateHistory, type HistoryShape } from "../../support/simulated-register.ts";

const shape = fc.record({
  clients: fc.integer({ min: 1, max: 8 }),
  operations: fc.integer({ min: 1, max: 120 }),
  plain: fc.boolean(),
  unknownShare: fc.constantFrom(0, 0.1, 0.4),
});
const seed = fc.nat();

/** Makes a sound history unsound for certain; null where it has nothing to do that to. */
type Mutation = (operations: readonly Operation[], random: Seeded) => Operation[] | null;

const MUTATIONS: Readonly<Record<string, Mutation>> = {
  "a read of what was overwritten before it began": (operations, random) => {
    const choices = operations.flatMap((old) =>
      isDone(old, "put")
        .flatMap(() =>
          operations.filter((next) => next.startMs > old.endMs && isDone(next, "put", "delete").length > 0),
        )
        .flatMap((next) => readsAfter(operations, next.endMs).map((read) => ({ old, read }))),
    );
    if (choices.length === 0) return null;
    const { old, read } = random.pick(choices);
    return withRead(operations, read, valueOf(old));
  },
  "a read of what is written only later": (operations, random) => {
    const choices = operations.flatMap((later) =>
      later.action.kind === "put"
        ? operations
            .filter((read) => read.action.kind === "read" && read.endMs < later.startMs)
            .map((read) => ({ later, read }))
        : [],
    );
    if (choices.length === 0) return null;
    const { later, read } = random.pick(choices);
    return withRead(operations, read, valueOf(later));
  },
  "a read of what nobody wrote": (operations, random) => {
    const reads = readsAfter(operations, Number.NEGATIVE_INFINITY);
    return reads.length === 0 ? null : withRead(operations, random.pick(reads), "halves of two");
  },
  "a second write that replaced the same version": (operations, random) => {
    const first = operations.filter(
      (operation) =>
        operation.action.kind === "put" &&
        operation.action.condition?.kind === "holds" &&
        Number.isFinite(operation.endMs),
    );
    if (first.length === 0) return null;
    const twin = random.pick(first);
    const action = { ...twin.action, value: "twin" } as Operation["action"];
    return [...operations, { ...twin, id: operations.length, action }];
  },
  "a read of nothing after a write that nobody deleted": (operations, random) => {
    if (operations.some(({ action }) => action.kind === "delete")) return null;
    const written = operations.flatMap((operation) => isDone(operation, "put"));
    const reads = written.flatMap(({ endMs }) => readsAfter(operations, endMs));
    return reads.length === 0 ? null : withRead(operations, random.pick(reads), null);
  },
};

describe("histories of a simulated register", () => {
  test("are explained by the search, and by the zones where these can judge", () => {
    fc.assert(
      fc.property(shape, seed, (shaped, number) => {
        const operations = simulateHistory(createSeeded(number), shaped);
        expect(searchOrder(operations), show(operations)).toEqual({ ok: true });
        if (shaped.plain) expect(checkZones(operations), show(operations)).toEqual({ ok: true });
      }),
      { numRuns: 600 },
    );
  });

  test.each(Object.entries(MUTATIONS))("are not explained any more with %s", (_, mutate) => {
    let mutants = 0;
    fc.assert(
      fc.property(shape, seed, (shaped, number) => {
        const random = createSeeded(number);
        const mutant = mutate(simulateHistory(random, shaped), random);
        if (mutant === null) return;
        mutants += 1;
        expect(searchOrder(mutant).ok, show(mutant)).toBe(false);
        if (shaped.plain) expect(checkZones(mutant).ok, show(mutant)).toBe(false);
      }),
      { numRuns: 400 },
    );
    expect(mutants).toBeGreaterThan(20);
  });

  test("are judged by the search as by trying every order", () => {
    const small: HistoryShape = { clients: 4, operations: 6, plain: false, unknownShare: 0.3 };
    fc.assert(
      fc.property(seed, fc.nat({ max: 5 }), fc.nat({ max: 5 }), (number, one, other) => {
        const operations = simulateHistory(createSeeded(number), small);
        // Two that have changed places make about half of the histories unsound.
        const swapped = operations.map((operation, index) => {
          const from = index === one ? other : index === other ? one : index;
          return { ...operation, action: (operations[from] as Operation).action };
        });
        expect(searchOrder(swapped).ok, show(swapped)).toBe(someOrderExplains(swapped, null));
      }),
      { numRuns: 1_500 },
    );
  });
});

/** By trying them all. */
function someOrderExplains(left: readonly Operation[], state: State): boolean {
  if (left.every(({ endMs }) => endMs === Number.POSITIVE_INFINITY)) return true;
  const firstEnd = Math.min(...left.map(({ endMs }) => endMs));
  return left.some((operation) => {
    if (operation.startMs > firstEnd) return false;
    const after = stateAfter(state, operation.action);
    return (
      after !== undefined &&
      someOrderExplains(
        left.filter((other) => other !== operation),
        after,
      )
    );
  });
}

function isDone(operation: Operation, ...kinds: readonly Operation["action"]["kind"][]): Operation[] {
  return kinds.includes(operation.action.kind) && Number.isFinite(operation.endMs) ? [operation] : [];
}

function readsAfter(operations: readonly Operation[], timeMs: number): Operation[] {
  return operations.filter(({ action, startMs }) => action.kind === "read" && startMs > timeMs);
}

function withRead(operations: readonly Operation[], read: Operation, value: State): Operation[] {
  return operations.map((operation) => (operation === read ? { ...read, action: { kind: "read", value } } : operation));
}

function valueOf({ action }: Operation): State {
  return action.kind === "put" ? action.value : null;
}

function show(operations: readonly Operation[]): string {
  return operations
    .toSorted((a, b) => a.startMs - b.startMs)
    .map(describeOperation)
    .join("\n");
}

/**
 * Linearizability of everything that can be done to a key, by a just-in-time search after Lowe ("Testing for
 * linearizability", 2017): the history is gone through once, with the set of all *configurations* that explain it so
 * far, each a state of the register and the operations under way that have taken effect already.
 *
 * - **Just in time.** A write takes effect, in the search, only when some operation has to have taken effect by its
 *   end; a read as soon as a configuration has what it saw, for it costs nothing and can only be missed.
 * - **Unknown outcomes** stay under way for ever and need never take effect. What several of them would do alike is
 *   counted, not told apart; and of two configurations that differ in nothing else, the one that has used fewer of them
 *   can do all that the other can, which is forgotten. This is what keeps an outage of minutes from being a search of years.
 * - **Values that nothing later asks about** are one and the same value.
 */
import {
  describeOperation,
  isRead,
  stateAfter,
  type Action,
  type Operation,
  type State,
  type Verdict,
} from "./register.ts";

export type SearchLimits = { readonly configurationsMax: number };

const LIMITS: SearchLimits = { configurationsMax: 2_000_000 };
/** Operations with a known outcome that overlap in time: bits of a number. */
const UNDER_WAY_MAX = 30;
/** A value that no operation names: whatever it is. */
const SOME_VALUE = "\0some value";
const OPERATIONS_SHOWN_MAX = 12;

type Configuration = {
  readonly state: State;
  /** Of the operations under way, by their slots: those that have taken effect. */
  readonly done: number;
  /** How many of each class of unknown outcomes have taken effect. */
  readonly used: readonly number[];
};

type UnderWay = { readonly operation: Operation; readonly slot: number; readonly isRead: boolean };
type UnknownClass = { readonly action: Action; count: number };

/**
 * Whether the history of one key can be explained. It is absent at first.
 * @throws {Error} when that could not be decided within the limits
 */
export function searchOrder(operations: readonly Operation[], limits: SearchLimits = LIMITS): Verdict {
  const search = new Search(operations, limits);
  for (const event of eventsOf(operations)) {
    if (event.kind === "start") search.begin(event.operation);
    else if (!search.end(event.operation)) return search.contradiction(event.operation);
  }
  return { ok: true };
}

type Event = { readonly kind: "start" | "end"; readonly timeMs: number; readonly operation: Operation };

/** In order of time; of the same time starts come first, for then the operations may have overlapped. */
function eventsOf(operations: readonly Operation[]): Event[] {
  const events = operations.flatMap((operation): Event[] => [
    { kind: "start", timeMs: operation.startMs, operation },
    ...(isUnknown(operation) ? [] : [{ kind: "end", timeMs: operation.endMs, operation } as const]),
  ]);
  return events.sort((a, b) => a.timeMs - b.timeMs || Number(a.kind === "end") - Number(b.kind === "end"));
}

function isUnknown({ endMs }: Operation): boolean {
  return endMs === Number.POSITIVE_INFINITY;
}

class Search {
  readonly #operations: readonly Operation[];
  readonly #named: ReadonlySet<State> | null;
  readonly #limits: SearchLimits;
  readonly #underWay = new Map<number, UnderWay>();
  readonly #classes: UnknownClass[] = [];
  readonly #classIndexes = new Map<string, number>();
  #configurations: readonly Configuration[] = [{ state: null, done: 0, used: [] }];
  #tried = 0;

  constructor(operations: readonly Operation[], limits: SearchLimits) {
    this.#operations = operations;
    this.#named = namedValues(operations);
    this.#limits = limits;
  }

  begin(operation: Operation): void {
    if (isUnknown(operation)) {
      if (!isRead(operation.action)) this.#count(operation.action);
      return;
    }
    const underWay = { operation, slot: this.#freeSlot(), isRead: isRead(operation.action) };
    this.#underWay.set(operation.id, underWay);
    if (underWay.isRead) this.#configurations = this.#configurations.map((each) => this.#read(each, [underWay]));
  }

  /** False when no configuration lets the operation take effect before its end. */
  end(operation: Operation): boolean {
    const ending = this.#underWay.get(operation.id) as UnderWay;
    const bit = 1 << ending.slot;
    const found = new Frontier();
    const seen = new Frontier();
    let level: Configuration[] = [];
    for (const each of this.#configurations) (each.done & bit ? found : seen).add(each);
    level = seen.list();
    // Level by level, so that the shortest way to a state is met first and drives out the longer ones.
    while (level.length > 0) {
      const next: Configuration[] = [];
      for (const each of level) {
        for (const later of this.#successors(each)) {
          this.#countTry(operation);
          if (later.done & bit) found.add(later);
          else if (seen.add(later)) next.push(later);
        }
      }
      level = next;
    }
    this.#underWay.delete(operation.id);
    const left = found.list().map((each) => ({ ...each, done: each.done & ~bit }));
    if (left.length === 0) return false;
    this.#configurations = left;
    return true;
  }

  contradiction(operation: Operation): Verdict {
    const states = [...new Set(this.#configurations.map(({ state }) => describeState(state)))];
    const near = this.#operations
      .filter((other) => other.startMs <= operation.endMs && other !== operation)
      .toSorted((a, b) => Math.min(b.endMs, operation.endMs) - Math.min(a.endMs, operation.endMs))
      .slice(0, OPERATIONS_SHOWN_MAX);
    const reason = `${describeOperation(operation)} cannot be explained: before it the key was ${states.join(" or ")}`;
    return { ok: false, reason, operations: [...near.toReversed(), operation] };
  }

  /** What one more write makes of a configuration, and the reads that it allows. */
  #successors(from: Configuration): Configuration[] {
    const later: Configuration[] = [];
    const reads = [...this.#underWay.values()].filter((each) => each.isRead);
    for (const { operation, slot, isRead: reading } of this.#underWay.values()) {
      if (reading || from.done & (1 << slot)) continue;
      const state = this.#after(from.state, operation.action);
      if (state !== undefined) later.push(this.#read({ ...from, state, done: from.done | (1 << slot) }, reads));
    }
    for (const [index, { action, count }] of this.#classes.entries()) {
      const usedBefore = from.used[index] ?? 0;
      if (usedBefore >= count) continue;
      const state = this.#after(from.state, action);
      if (state === undefined || state === from.state) continue;
      const used = Array.from({ length: Math.max(from.used.length, index + 1) }, (_, at) => from.used[at] ?? 0);
      used[index] = usedBefore + 1;
      later.push(this.#read({ ...from, state, used }, reads));
    }
    return later;
  }

  #read(configuration: Configuration, reads: readonly UnderWay[]): Configuration {
    let { done } = configuration;
    for (const { operation, slot } of reads) {
      if (this.#after(configuration.state, operation.action) !== undefined) done |= 1 << slot;
    }
    return done === configuration.done ? configuration : { ...configuration, done };
  }

  #after(state: State, action: Action): State | undefined {
    const after = stateAfter(state, action);
    return after == null || this.#named === null || this.#named.has(after) ? after : SOME_VALUE;
  }

  #count(action: Action): void {
    const isSome = action.kind === "put" && this.#named !== null && !this.#named.has(action.value);
    const alike: Action = isSome ? { ...action, value: SOME_VALUE } : action;
    const name = JSON.stringify(alike);
    const index = this.#classIndexes.get(name);
    if (index !== undefined) (this.#classes[index] as UnknownClass).count += 1;
    else {
      this.#classIndexes.set(name, this.#classes.length);
      this.#classes.push({ action: alike, count: 1 });
    }
  }

  #freeSlot(): number {
    const taken = new Set([...this.#underWay.values()].map(({ slot }) => slot));
    for (let slot = 0; slot < UNDER_WAY_MAX; slot += 1) if (!taken.has(slot)) return slot;
    throw new Error(`More than ${UNDER_WAY_MAX} operations on one key overlap: this search is made for fewer`);
  }

  #countTry(operation: Operation): void {
    this.#tried += 1;
    if (this.#tried <= this.#limits.configurationsMax) return;
    throw new Error(
      `Undecided after ${this.#limits.configurationsMax} configurations, at ${describeOperation(operation)} of ${this.#operations.length}`,
    );
  }
}

/** Configurations of which none can do all that another one can. */
class Frontier {
  readonly #byPlace = new Map<string, Configuration[]>();

  /** False when there is one already that is no worse. */
  add(configuration: Configuration): boolean {
    const place = `${configuration.done}\0${configuration.state ?? ""}\0${configuration.state === null}`;
    const others = this.#byPlace.get(place) ?? [];
    if (others.some((other) => usesNoMore(other, configuration))) return false;
    this.#byPlace.set(place, [...others.filter((other) => !usesNoMore(configuration, other)), configuration]);
    return true;
  }

  list(): Configuration[] {
    return [...this.#byPlace.values()].flat();
  }
}

function usesNoMore(one: Configuration, other: Configuration): boolean {
  return one.used.every((count, index) => count <= (other.used[index] ?? 0));
}

/** Values that some operation asks about; null where patches make values out of others. */
function namedValues(operations: readonly Operation[]): ReadonlySet<State> | null {
  const named = new Set<State>([null]);
  for (const { action } of operations) {
    if (action.kind === "patch" || action.kind === "read_fields") return null;
    if (action.kind === "read") named.add(action.value);
    const condition = "condition" in action ? action.condition : null;
    if (condition?.kind === "holds") named.add(condition.value);
  }
  return named;
}

function describeState(state: State): string {
  if (state === null) return "absent";
  return state === SOME_VALUE ? "a value that nobody read" : state;
}

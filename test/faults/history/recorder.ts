/** The history of a campaign: every request with what it was answered and what that says about keys, by one monotonic clock. */
import type { Action, Operation, State } from "../checkers/register.ts";

/** `failed`: provably nothing happened. `unknown`: it may have happened, or may yet. */
export type Outcome = "ok" | "failed" | "unknown";

/** What an operation did to a key or saw of it. Of some answers only the entity tag is known, until a read tells what it stands for. */
export type Meaning = {
  readonly key: string;
  readonly action: Action | { readonly kind: "read_tag"; readonly etag: string };
};

export type Answered = {
  readonly outcome: Outcome;
  /** 0 without an answer. */
  readonly status: number;
  readonly meanings: readonly Meaning[];
  readonly version?: string;
  /** Why it failed, as far as known. */
  readonly note?: string;
};

export type RecordedOperation = Answered & {
  readonly id: number;
  readonly client: string;
  readonly gateway: string;
  readonly request: string;
  readonly isWrite: boolean;
  readonly startMs: number;
  /** When it was answered or given up. */
  readonly endMs: number;
};

export type Request = Pick<RecordedOperation, "client" | "gateway" | "request" | "isWrite">;

export class HistoryRecorder {
  readonly #originMs = performance.now();
  readonly #operations: RecordedOperation[] = [];
  readonly #states = new Map<string, Map<string, State>>();
  /** Answers that contradict the protocol by themselves. */
  readonly contradictions: string[] = [];
  #nextId = 1;

  /** Since this recorder was made. */
  nowMs(): number {
    return performance.now() - this.#originMs;
  }

  get operations(): readonly RecordedOperation[] {
    return this.#operations;
  }

  /** Runs a request and notes what `send` makes of its answer. */
  async record(request: Request, send: () => Promise<Answered>): Promise<Answered> {
    const id = this.#nextId;
    this.#nextId += 1;
    const startMs = this.nowMs();
    const answered = await send();
    this.#operations.push({ id, ...request, startMs, endMs: this.nowMs(), ...answered });
    return answered;
  }

  /** Notes which state of a key an entity tag stands for. One that stands for two is a contradiction. */
  learnTag(key: string, etag: string, value: State): void {
    const known = this.#states.get(key) ?? new Map<string, State>();
    this.#states.set(key, known);
    const before = known.get(etag);
    if (before !== undefined && before !== value) {
      this.contradictions.push(`${key}: the tag ${etag} stands for ${before} and for ${value}`);
    }
    known.set(etag, value);
  }

  stateOfTag(key: string, etag: string): State | undefined {
    return this.#states.get(key)?.get(etag);
  }

  /** What happened to each key, as the checkers want it. */
  byKey(): Map<string, Operation[]> {
    const histories = new Map<string, Operation[]>();
    for (const { id, startMs, endMs, outcome, meanings } of this.#operations) {
      for (const { key, action: meant } of outcome === "failed" ? [] : meanings) {
        const action = meant.kind === "read_tag" ? this.#readOf(key, meant.etag) : meant;
        if (action === null) continue;
        const operations = histories.get(key) ?? [];
        histories.set(key, operations);
        operations.push({ id, startMs, endMs: outcome === "unknown" ? Number.POSITIVE_INFINITY : endMs, action });
      }
    }
    return histories;
  }

  #readOf(key: string, etag: string): Action | null {
    const value = this.stateOfTag(key, etag);
    return value === undefined ? null : { kind: "read", value };
  }
}

import fc from "fast-check";
import { expect, test } from "vitest";
import type { StreamEntry } from "../../src/metadata/stream-progress.ts";
import { StreamProgress } from "../../src/metadata/stream-progress.ts";

/**
 * A stream that keeps the last message of each subject and a process that follows it late, with commits and barriers of
 * its own. Whoever is told that the index is exact at a sequence must find there what the key had then, or newer.
 */
type Step =
  | { readonly kind: "foreign"; readonly key: number }
  | { readonly kind: "own"; readonly keys: readonly number[] }
  | { readonly kind: "deliver"; readonly count: number }
  | { readonly kind: "acknowledge" };

const key = fc.nat({ max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("foreign" as const), key }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("own" as const), keys: fc.uniqueArray(key, { maxLength: 3 }) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("deliver" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("acknowledge" as const) }) },
);

test("whenExact() never answers a reader before the index holds what was committed before", async () => {
  let answeredCount = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60, size: "max" }), async (steps) => {
      const model = new Model();
      for (const each of steps) {
        model.apply(each);
        answeredCount += await model.checkReaders();
      }
    }),
    { numRuns: 2_000 },
  );
  expect(answeredCount).toBeGreaterThan(1_000);
});

type Round = {
  readonly entries: readonly StreamEntry[];
  readonly gapCount: number;
  readonly newest: Map<string, number>;
};
type Reader = { readonly newest: Map<string, number>; isTold: boolean };

class Model {
  #sequence = 0;
  /** What the stream still has, by subject. */
  readonly #kept = new Map<string, StreamEntry>();
  #deliveredTo = 0;
  readonly #progress = new StreamProgress(0);
  readonly #index = new Map<string, number>();
  /** Stored, its answer under way. */
  #round: Round | null = null;
  #readers: Reader[] = [];

  apply(step: Step): void {
    if (step.kind === "foreign") this.#store(`key ${step.key}`);
    if (step.kind === "deliver") this.#deliver(step.count);
    if (step.kind === "own" && this.#round === null) {
      const { gapCount } = this.#progress;
      const newest = this.#newest();
      const entries = step.keys.length === 0 ? [this.#store(null)] : step.keys.map((n) => this.#store(`key ${n}`));
      this.#round = { entries, gapCount, newest };
    }
    if (step.kind === "acknowledge" && this.#round !== null) {
      const { entries, gapCount, newest } = this.#round;
      this.#round = null;
      const reader: Reader = { newest, isTold: false };
      this.#readers.push(reader);
      this.#progress.addOwn(entries);
      this.#progress.closeGaps(gapCount, entries.at(-1)?.sequence ?? 0);
      void this.#progress.whenExact(entries.at(-1)?.sequence ?? 0).then(() => (reader.isTold = true));
      this.#advance([]);
    }
  }

  /** Answers how many readers were told. */
  async checkReaders(): Promise<number> {
    for (let turn = 0; turn < 3; turn += 1) await Promise.resolve();
    const told = this.#readers.filter(({ isTold }) => isTold);
    this.#readers = this.#readers.filter(({ isTold }) => !isTold);
    for (const { newest } of told) {
      for (const [slot, sequence] of newest) expect(this.#index.get(slot) ?? 0).toBeGreaterThanOrEqual(sequence);
    }
    return told.length;
  }

  #store(slot: string | null): StreamEntry {
    const sequence = (this.#sequence += 1);
    const entry: StreamEntry = { sequence, slot, value: slot === null ? null : Buffer.of(0) };
    this.#kept.set(slot ?? `barrier ${sequence % 2}`, entry);
    return entry;
  }

  #deliver(count: number): void {
    const next = [...this.#kept.values()]
      .filter(({ sequence }) => sequence > this.#deliveredTo)
      .sort((a, b) => a.sequence - b.sequence)
      .slice(0, count);
    this.#deliveredTo = next.at(-1)?.sequence ?? this.#deliveredTo;
    this.#advance(next);
  }

  #advance(delivered: readonly StreamEntry[]): void {
    for (const { slot, sequence } of this.#progress.advance(delivered)) {
      if (slot === null) continue;
      expect(sequence).toBeGreaterThan(this.#index.get(slot) ?? 0);
      this.#index.set(slot, sequence);
    }
    this.#progress.release();
  }

  #newest(): Map<string, number> {
    return new Map([...this.#kept.values()].flatMap(({ slot, sequence }) => (slot === null ? [] : [[slot, sequence]])));
  }
}

/**
 * Counts how often each object is read over a sliding window, in bounded memory. The window is cut into slices; each
 * slice keeps the objects read most by Misra and Gries: who finds no place makes everybody lose one read. So a count is
 * never too high, and too low by no more than the reads of the slice divided by the places: what is read often enough
 * to matter is always there, however many others are read once. Reads that the cache answers count as well: others may
 * have to ask the nodes for the same object.
 */
import type { ObjectHeat } from "../domain/heat.ts";
import type { BucketName, ObjectKey, VersionId } from "../domain/ids.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { Clock } from "../lib/clock.ts";

export type ReadHeatOptions = {
  readonly windowMs?: number;
  /** Objects that one slice keeps. */
  readonly places?: number;
};

const WINDOW_MS = 60_000;
const SLICES = 6;
const PLACES = 2_048;

type Counted = Pick<ObjectRecord, "bucket" | "key" | "version">;
/** No more of a record than this: it may hold a whole object. */
type Tally = { readonly bucket: BucketName; readonly key: ObjectKey; version: VersionId; reads: number };
type Slice = { readonly startedAtMs: number; readonly tallies: Map<string, Tally> };

export class ReadHeat {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #places: number;
  /** The newest is the last one; it is still being counted in. */
  #slices: Slice[];

  constructor(clock: Clock, { windowMs = WINDOW_MS, places = PLACES }: ReadHeatOptions = {}) {
    this.#clock = clock;
    this.#sliceMs = windowMs / SLICES;
    this.#places = places;
    this.#slices = [{ startedAtMs: clock.monotonicMs(), tallies: new Map() }];
  }

  /** Counts one read. */
  note({ bucket, key, version }: Counted): void {
    const { tallies } = this.#currentSlice();
    const name = `${bucket}\0${key}`;
    const tally = tallies.get(name);
    if (tally !== undefined) {
      tally.reads += 1;
      tally.version = version;
      return;
    }
    if (tallies.size < this.#places) {
      tallies.set(name, { bucket, key, version, reads: 1 });
      return;
    }
    // Every read that is taken off here was counted before, so on average this is one step per read.
    for (const [other, loser] of tallies) if ((loser.reads -= 1) === 0) tallies.delete(other);
  }

  /** At most `countMax` objects with at least `readsMin` reads in the window, the hottest first. */
  hottest(readsMin: number, countMax: number): ObjectHeat[] {
    this.#currentSlice();
    const sums = new Map<string, Tally>();
    for (const { tallies } of this.#slices) {
      for (const [name, tally] of tallies) {
        sums.set(name, { ...tally, reads: tally.reads + (sums.get(name)?.reads ?? 0) });
      }
    }
    const windowMs = Math.ceil(this.#clock.monotonicMs() - (this.#slices[0] as Slice).startedAtMs);
    return [...sums.values()]
      .filter(({ reads }) => reads >= readsMin)
      .sort((a, b) => b.reads - a.reads)
      .slice(0, countMax)
      .map((tally) => ({ ...tally, windowMs }));
  }

  /** The slice of this moment; what has left the window is forgotten. */
  #currentSlice(): Slice {
    const nowMs = this.#clock.monotonicMs();
    const newest = this.#slices.at(-1) as Slice;
    if (nowMs - newest.startedAtMs < this.#sliceMs) return newest;
    const slice = { startedAtMs: nowMs, tallies: new Map<string, Tally>() };
    const keptSinceMs = nowMs - this.#sliceMs * (SLICES - 1);
    this.#slices = [...this.#slices.filter(({ startedAtMs }) => startedAtMs >= keptSinceMs), slice];
    return slice;
  }
}

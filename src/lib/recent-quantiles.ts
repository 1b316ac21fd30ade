/**
 * Quantiles of a stream of positive figures in which the latest count most: each weighs as much as two that came
 * `halfLife` figures earlier. Buckets grow by a fifth, so that an answer is at most that much too high.
 */
export class RecentQuantiles {
  readonly #buckets = new Float64Array(BUCKETS);
  readonly #growth: number;
  #weight = 1;
  #total = 0;

  constructor(halfLife: number) {
    this.#growth = 2 ** (1 / halfLife);
  }

  note(value: number): void {
    const step = Math.ceil(Math.log2(value / VALUE_MIN) * STEPS_PER_OCTAVE);
    const index = Math.min(BUCKETS - 1, Math.max(0, step));
    this.#weight *= this.#growth;
    this.#buckets[index] = (this.#buckets[index] as number) + this.#weight;
    this.#total += this.#weight;
    if (this.#weight > WEIGHT_MAX) this.#rescale();
  }

  /** What the share `quantile` of the figures does not exceed, in whole buckets; null before the first figure. */
  at(quantile: number): number | null {
    if (this.#total === 0) return null;
    // From above: the quantiles asked for are the high ones, and sums of shares are not exact.
    let above = this.#total * (1 - quantile);
    for (let index = BUCKETS - 1; index > 0; index -= 1) {
      above -= this.#buckets[index] as number;
      if (above < 0) return upperEdge(index);
    }
    return upperEdge(0);
  }

  clear(): void {
    this.#buckets.fill(0);
    this.#total = 0;
    this.#weight = 1;
  }

  #rescale(): void {
    for (let index = 0; index < BUCKETS; index += 1) {
      this.#buckets[index] = (this.#buckets[index] as number) / this.#weight;
    }
    this.#total /= this.#weight;
    this.#weight = 1;
  }
}

const STEPS_PER_OCTAVE = 4;
/** The first bucket ends here, the last one some 18 octaves higher. */
const VALUE_MIN = 1 / 16;
const BUCKETS = 18 * STEPS_PER_OCTAVE + 1;
const WEIGHT_MAX = 1e12;

function upperEdge(index: number): number {
  return VALUE_MIN * 2 ** (index / STEPS_PER_OCTAVE);
}

/** How large bodies are: mostly small, now and then large, and together no more than a budget. */
import type { Seeded } from "../../support/load/seeded.ts";

const BYTES_MAX = 32 * 1_048_576;
/** Most bodies are of the first size or less. */
const TAIL: readonly (readonly [share: number, bytesMax: number])[] = [
  [0.8, 64 * 1_024],
  [0.17, 1_048_576],
  [0.03, BYTES_MAX],
];

/** So many bytes per second since it was made, and some to begin with. */
export class ByteBudget {
  readonly #bytesPerSecond: number;
  readonly #nowMs: () => number;
  #spent: number;

  constructor(bytesPerSecond: number, bytesFirst: number, nowMs: () => number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#nowMs = nowMs;
    this.#spent = -bytesFirst;
  }

  take(bytes: number): void {
    this.#spent += bytes;
  }

  get left(): number {
    return (this.#nowMs() / 1_000) * this.#bytesPerSecond - this.#spent;
  }
}

/** From one byte on, and no more than the budget has left unless that is little. */
export function drawBytes(random: Seeded, budget: ByteBudget): number {
  let choice = random.next();
  const [, bytesMax] = TAIL.find(([share]) => (choice -= share) < 0) ?? (TAIL[0] as (typeof TAIL)[number]);
  const drawn = random.size(1, bytesMax);
  const bytes = drawn <= budget.left ? drawn : 1 + (drawn % 4_096);
  budget.take(bytes);
  return bytes;
}

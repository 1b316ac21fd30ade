import { assert } from "./assert.ts";

/**
 * Tells numbers that were given out once, in rising order, from those that come a second time, although they may
 * overtake each other on the way. Memory is bounded: a number that is `size` or more behind the highest counts as seen.
 */
export class ReplayWindow {
  readonly #bits: Uint32Array;
  readonly #size: number;
  #highest = -1;

  /** `size` is a multiple of 32. */
  constructor(size: number) {
    assert(size > 0 && size % 32 === 0, "a window is whole words");
    this.#bits = new Uint32Array(size / 32);
    this.#size = size;
  }

  /** True once for each whole number from 0, and false ever after. */
  admit(number: number): boolean {
    if (number <= this.#highest - this.#size) return false;
    if (number > this.#highest) this.#advance(number);
    else if (this.#isSet(number)) return false;
    this.#set(number);
    return true;
  }

  /** Forgets what leaves the window at its lower end. */
  #advance(number: number): void {
    if (number - this.#highest >= this.#size) this.#bits.fill(0);
    else for (let next = this.#highest + 1; next <= number; next += 1) this.#clear(next);
    this.#highest = number;
  }

  #isSet(number: number): boolean {
    const at = number % this.#size;
    return ((this.#bits[at >>> 5] as number) & (1 << (at & 31))) !== 0;
  }

  #set(number: number): void {
    const at = number % this.#size;
    this.#bits[at >>> 5] = (this.#bits[at >>> 5] as number) | (1 << (at & 31));
  }

  #clear(number: number): void {
    const at = number % this.#size;
    this.#bits[at >>> 5] = (this.#bits[at >>> 5] as number) & ~(1 << (at & 31));
  }
}

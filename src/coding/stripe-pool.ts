import { assert } from "../lib/assert.ts";
import { KIB, ceilTo } from "../lib/bytes.ts";
import type { Stripe } from "./coder.ts";

/**
 * Shared memory for stripes, used again: fresh shared memory must be mapped and zeroed by the kernel, and the garbage
 * collector is slow to see how much of it is held. Not zeroed between uses; `encode` pads what it stores.
 */
export class StripePool {
  readonly #keptBytesMax: number;
  /** Free stripes by size; the size that was given back last comes last. */
  readonly #free = new Map<number, Stripe[]>();
  readonly #lent = new WeakSet<Stripe>();
  #keptBytes = 0;

  /** Keeps at most `keptBytesMax` of unused stripes. What is lent is not limited here but by who accounts for memory. */
  constructor(options: { readonly keptBytesMax: number }) {
    this.#keptBytesMax = options.keptBytesMax;
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A stripe with room for at least `bytes`, holding whatever was left in it. It is the caller's until `release`. */
  allocateStripe(bytes: number): Stripe {
    const size = sizeClassOf(bytes);
    const stripe = this.#take(size) ?? createStripe(size);
    this.#lent.add(stripe);
    return stripe;
  }

  /** Gives a stripe back. No call that got it may be pending. */
  release(stripe: Stripe): void {
    assert(this.#lent.delete(stripe), "a stripe is released once, to the pool that lent it");
    const size = stripe.bytes.length;
    if (size > this.#keptBytesMax) return;
    const stack = this.#free.get(size) ?? [];
    stack.push(stripe);
    this.#free.delete(size);
    this.#free.set(size, stack);
    this.#keptBytes += size;
    while (this.#keptBytes > this.#keptBytesMax) this.#dropOne();
  }

  #take(size: number): Stripe | null {
    const stack = this.#free.get(size);
    const stripe = stack?.pop();
    if (stack === undefined || stripe === undefined) return null;
    if (stack.length === 0) this.#free.delete(size);
    this.#keptBytes -= size;
    return stripe;
  }

  /** Forgets a stripe of the size that went unused longest. */
  #dropOne(): void {
    const [size] = this.#free.keys();
    assert(size !== undefined, "a pool over its limit keeps something");
    this.#take(size);
  }
}

const SIZE_MIN = 4 * KIB;

/** Four sizes between a power of two and the next: at most a quarter more than asked, and few sizes to keep apart. */
function sizeClassOf(bytes: number): number {
  if (bytes <= SIZE_MIN) return SIZE_MIN;
  const step = 2 ** Math.floor(Math.log2(bytes - 1)) / 4;
  return ceilTo(bytes, step);
}

function createStripe(bytes: number): Stripe {
  const memory = new SharedArrayBuffer(bytes);
  return { memory, bytes: new Uint8Array(memory) };
}

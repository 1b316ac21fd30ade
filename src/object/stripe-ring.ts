import type { Stripe } from "../coding/coder.ts";
import type { StripePool } from "../coding/stripe-pool.ts";
import type { Permit } from "../lib/semaphore.ts";
import type { MemoryDeps } from "./reserve-memory.ts";
import { reserveMemory } from "./reserve-memory.ts";

export type StripeRingDeps = MemoryDeps & { readonly stripes: StripePool };

/**
 * The stripes of one transfer. The first is guaranteed by `open`; more are taken only while the process has memory to
 * spare, so a transfer under pressure goes on stripe by stripe instead of failing.
 */
export class StripeRing {
  readonly #deps: StripeRingDeps;
  readonly #stripeBytes: number;
  readonly #stripesMax: number;
  readonly #permits: Permit[] = [];
  readonly #free: Stripe[] = [];
  readonly #owned: Stripe[] = [];
  readonly #parked = new Set<Stripe>();
  #waiting: { resolve: (stripe: Stripe) => void; reject: (cause: unknown) => void } | null = null;
  #failure: { cause: unknown } | null = null;

  private constructor(deps: StripeRingDeps, stripeBytes: number, stripesMax: number, permit: Permit) {
    this.#deps = deps;
    this.#stripeBytes = stripeBytes;
    this.#stripesMax = stripesMax;
    this.#permits.push(permit);
    this.#adopt();
  }

  /** @throws {StoreError} `overloaded` (retriable) when no memory came free in time */
  static async open(deps: StripeRingDeps, stripeBytes: number, stripesMax: number): Promise<StripeRing> {
    const permit = await reserveMemory(deps, stripeBytes);
    return new StripeRing(deps, stripeBytes, stripesMax, permit);
  }

  /** A stripe that can be had without waiting, or null. */
  tryTake(): Stripe | null {
    if (this.#free.length === 0 && this.#owned.length - this.#parked.size < this.#stripesMax) {
      const permit = this.#deps.memory.tryAcquire(this.#stripeBytes);
      if (permit !== null) {
        this.#permits.push(permit);
        this.#adopt();
      }
    }
    return this.#free.pop() ?? null;
  }

  /** The next stripe to use; waits until one is given back when all are in use. Rejects once the ring has failed. */
  async take(): Promise<Stripe> {
    if (this.#failure !== null) throw this.#failure.cause;
    const stripe = this.tryTake();
    if (stripe !== null) return stripe;
    return await new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  give(stripe: Stripe): void {
    if (this.#waiting === null) {
      this.#free.push(stripe);
      return;
    }
    const { resolve } = this.#waiting;
    this.#waiting = null;
    resolve(stripe);
  }

  /**
   * Takes a stripe out of rotation until `free` resolves: somebody slow still reads it. Where memory allows, another one
   * takes its place.
   */
  park(stripe: Stripe, free: Promise<void>): void {
    this.#parked.add(stripe);
    void free.then(() => {
      if (this.#parked.delete(stripe)) this.give(stripe);
    });
    if (this.#waiting === null) return;
    const another = this.tryTake();
    if (another !== null) this.give(another);
  }

  /** Makes the pending and every later `take` reject with `cause`: work on an earlier stripe has failed. */
  fail(cause: unknown): void {
    this.#failure ??= { cause };
    this.#waiting?.reject(this.#failure.cause);
    this.#waiting = null;
  }

  /** Gives all memory back. Only when nobody uses a stripe of this ring any more. */
  close(): void {
    this.#parked.clear();
    for (const stripe of this.#owned.splice(0)) this.#deps.stripes.release(stripe);
    for (const permit of this.#permits.splice(0)) permit.release();
  }

  #adopt(): void {
    const stripe = this.#deps.stripes.allocateStripe(this.#stripeBytes);
    this.#owned.push(stripe);
    this.#free.push(stripe);
  }
}

import type { Clock, Timer } from "./clock.ts";
import { pauseAfter } from "./round-pause.ts";

export type LaneSettings = {
  /** Requests under way at a time. */
  readonly inFlightMax: number;
  /** After so long a request no longer counts as under way, so that one slow item does not hold up those behind it. */
  readonly slowMs: number;
  /** Requests under way, the slow ones included. */
  readonly requestsMax: number;
  readonly itemsMax: number;
  /** A batch is closed by the item that reaches this. */
  readonly bytesTarget: number;
};

export type LaneEntry<Item> = { readonly item: Item; readonly bytes: number; waiting: boolean };

/**
 * Batches of what waits for one receiver. While requests are under way, whatever else comes waits and goes out together
 * in the next one, after a pause where requests are shared; an item that meets nothing under way goes at once. Items settle
 * by themselves: `send` gets them and must not reject.
 */
export class RequestLane<Item> {
  readonly #clock: Clock;
  readonly #settings: LaneSettings;
  readonly #send: (items: Item[]) => Promise<void>;
  #waiting: LaneEntry<Item>[] = [];
  /** How many of those that wait have been withdrawn. */
  #withdrawn = 0;
  #requests = 0;
  #slow = 0;
  #pumping = false;

  constructor(clock: Clock, settings: LaneSettings, send: (items: Item[]) => Promise<void>) {
    this.#clock = clock;
    this.#settings = settings;
    this.#send = send;
  }

  /** Entries that wait. */
  get length(): number {
    return this.#waiting.length - this.#withdrawn;
  }

  /** Queues an item; `withdraw` takes it out again as long as it waits. */
  add(item: Item, bytes: number): LaneEntry<Item> {
    const entry = { item, bytes, waiting: true };
    this.#waiting.push(entry);
    void this.#pump();
    return entry;
  }

  /** True when the item had not been sent and never will be. */
  withdraw(entry: LaneEntry<Item>): boolean {
    if (!entry.waiting) return false;
    entry.waiting = false;
    this.#withdrawn += 1;
    // Nothing may be sent for a while: what is withdrawn must not pile up, nor each be searched for.
    if (this.#withdrawn * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.filter((other) => other.waiting);
      this.#withdrawn = 0;
    }
    return true;
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    // One turn of the microtask queue lets everything that became ready together share a request.
    await Promise.resolve();
    this.#pumping = false;
    while (this.length > 0 && this.#hasRoom()) void this.#sendNext();
  }

  #hasRoom(): boolean {
    const { inFlightMax, requestsMax } = this.#settings;
    return this.#requests - this.#slow < inFlightMax && this.#requests < requestsMax;
  }

  async #sendNext(): Promise<void> {
    const items = this.#takeBatch();
    let isSlow = false;
    const timer: Timer = this.#clock.startTimer(this.#settings.slowMs, () => {
      isSlow = true;
      this.#slow += 1;
      void this.#pump();
    });
    this.#requests += 1;
    const startedAtMs = this.#clock.monotonicMs();
    await this.#send(items);
    timer.cancel();
    if (!isSlow) await pauseAfter(this.#clock, { startedAtMs, memberCount: items.length });
    this.#requests -= 1;
    if (isSlow) this.#slow -= 1;
    void this.#pump();
  }

  #takeBatch(): Item[] {
    const items: Item[] = [];
    let bytes = 0;
    let taken = 0;
    for (const entry of this.#waiting) {
      if (items.length === this.#settings.itemsMax || bytes >= this.#settings.bytesTarget) break;
      taken += 1;
      if (!entry.waiting) {
        this.#withdrawn -= 1;
        continue;
      }
      entry.waiting = false;
      items.push(entry.item);
      bytes += entry.bytes;
    }
    this.#waiting.splice(0, taken);
    return items;
  }
}

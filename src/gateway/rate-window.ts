import type { Clock } from "../lib/clock.ts";

const SLOTS = 60;
const SLOT_MS = 1_000;

/** Requests and bytes of the last minute, in slots of a second. */
export class RateWindow {
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #slots = Array.from({ length: SLOTS }, () => ({ second: -1, requests: 0, bytesIn: 0, bytesOut: 0 }));

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
  }

  add(bytesIn: number, bytesOut: number): void {
    const second = this.#second();
    const slot = this.#slots[second % SLOTS] as { second: number; requests: number; bytesIn: number; bytesOut: number };
    if (slot.second !== second) {
      slot.second = second;
      slot.requests = 0;
      slot.bytesIn = 0;
      slot.bytesOut = 0;
    }
    slot.requests += 1;
    slot.bytesIn += bytesIn;
    slot.bytesOut += bytesOut;
  }

  /** Means over the last minute, or over the time since the start when that is shorter. */
  perSecond(): { requests: number; bytesIn: number; bytesOut: number } {
    const second = this.#second();
    const seconds = Math.min(SLOTS, second + 1);
    const total = { requests: 0, bytesIn: 0, bytesOut: 0 };
    for (const slot of this.#slots) {
      if (slot.second === -1 || slot.second <= second - SLOTS) continue;
      total.requests += slot.requests;
      total.bytesIn += slot.bytesIn;
      total.bytesOut += slot.bytesOut;
    }
    return {
      requests: total.requests / seconds,
      bytesIn: total.bytesIn / seconds,
      bytesOut: total.bytesOut / seconds,
    };
  }

  #second(): number {
    return Math.floor((this.#clock.monotonicMs() - this.#startMs) / SLOT_MS);
  }
}

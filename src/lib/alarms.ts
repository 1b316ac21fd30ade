import type { Clock, Timer } from "./clock.ts";
import { nextTurn } from "./next-turn.ts";

type Alarm = { readonly atMs: number; readonly action: () => void };

/**
 * Many short waits of which most are cancelled before they are due, on one timer of the runtime: what ends in time
 * costs an entry in a set. The timer is not moved when its alarm is cancelled, it then finds nothing to do.
 */
export class Alarms {
  readonly #clock: Clock;
  readonly #pending = new Set<Alarm>();
  #timer: Timer | null = null;
  #timerAtMs = Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `action` once, `delayMs` from now at the earliest, unless it is cancelled before. */
  set(delayMs: number, action: () => void): Timer {
    const alarm: Alarm = { atMs: this.#clock.monotonicMs() + delayMs, action };
    this.#pending.add(alarm);
    if (alarm.atMs < this.#timerAtMs) this.#arm(alarm.atMs);
    return { cancel: () => void this.#pending.delete(alarm) };
  }

  #arm(atMs: number): void {
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    // A fraction of a millisecond is lost by the runtime's timers, which would then ring too early and once more.
    const delayMs = Math.ceil(Math.max(0, atMs - this.#clock.monotonicMs()));
    this.#timer = this.#clock.startTimer(delayMs, () => void this.#ring());
  }

  async #ring(): Promise<void> {
    const nowMs = Math.max(this.#clock.monotonicMs(), this.#timerAtMs);
    this.#timer = null;
    this.#timerAtMs = Infinity;
    const due: Alarm[] = [];
    let nextAtMs = Infinity;
    for (const alarm of this.#pending) {
      if (alarm.atMs <= nowMs) due.push(alarm);
      else nextAtMs = Math.min(nextAtMs, alarm.atMs);
    }
    if (nextAtMs < Infinity) this.#arm(nextAtMs);
    if (due.length === 0) return;
    // After a stall of this process timers run before the answers that have arrived: those are heard first.
    await nextTurn();
    for (const alarm of due) if (this.#pending.delete(alarm)) alarm.action();
  }
}

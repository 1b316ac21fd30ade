import type { Clock, Timer } from "./clock.ts";
import { nextTurn } from "./next-turn.ts";

/**
 * Many short waits of which most are cancelled before they are due, on one timer of the runtime. It rings for the
 * earliest of them, whether or not that was cancelled, and then forgets all that were.
 */
export class Alarms {
  readonly #clock: Clock;
  /** In the order they were set. Not a set: its additions and removals would be most of what a small read costs. */
  #alarms: Alarm[] = [];
  #timer: Timer | null = null;
  #timerAtMs = Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `action` once, `delayMs` from now at the earliest, unless it is cancelled before. */
  set(delayMs: number, action: () => void): Timer {
    const alarm = new Alarm(this.#clock.monotonicMs() + delayMs, action);
    this.#alarms.push(alarm);
    if (alarm.atMs < this.#timerAtMs) this.#arm(alarm.atMs);
    return alarm;
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
    const running = this.#alarms.filter((alarm) => alarm.isRunning);
    this.#alarms = running.filter((alarm) => alarm.atMs > nowMs);
    const nextAtMs = this.#alarms.reduce((earliest, alarm) => Math.min(earliest, alarm.atMs), Infinity);
    if (nextAtMs < Infinity) this.#arm(nextAtMs);
    if (running.length === this.#alarms.length) return;
    // After a stall of this process timers run before the answers that have arrived: those are heard first.
    await nextTurn();
    for (const alarm of running) if (alarm.atMs <= nowMs) alarm.run();
  }
}

class Alarm implements Timer {
  readonly atMs: number;
  #action: (() => void) | null;

  constructor(atMs: number, action: () => void) {
    this.atMs = atMs;
    this.#action = action;
  }

  get isRunning(): boolean {
    return this.#action !== null;
  }

  /** Also lets go of what the action holds. */
  cancel(): void {
    this.#action = null;
  }

  run(): void {
    const action = this.#action;
    this.#action = null;
    action?.();
  }
}

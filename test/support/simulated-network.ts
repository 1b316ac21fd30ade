/**
 * Processes whose every call to another one is a message that the test delivers when it pleases: late, after its caller
 * gave up, while its caller sleeps, or not at all. Effects are real, on memory adapters; only time and order are the test's.
 */
import { StoreError } from "../../src/domain/errors.ts";
import type { Clock, Timer } from "../../src/lib/clock.ts";
import type { Deadline } from "../../src/lib/deadline.ts";
import { ManualClock } from "./manual-clock.ts";

/** One process: it runs, sleeps (SIGSTOP) or is dead. What happens to it while it sleeps waits for it. */
export class SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly startedAtMs: number;
  state: "runs" | "sleeps" | "dead" = "runs";
  /** When it was last heard of. */
  silentSinceMs: number | null = null;
  readonly #waiting: (() => void)[] = [];

  constructor(name: string, clock: ManualClock) {
    this.name = name;
    this.startedAtMs = clock.monotonicMs();
    this.clock = {
      wallMs: () => clock.wallMs(),
      monotonicMs: () => clock.monotonicMs(),
      startTimer: (delayMs, action): Timer => {
        let cancelled = false;
        const timer = clock.startTimer(delayMs, () => this.whenRunning(() => void (cancelled || action())));
        return {
          cancel: () => {
            cancelled = true;
            timer.cancel();
          },
        };
      },
      sleep: (delayMs) => new Promise((resolve) => void this.clock.startTimer(delayMs, resolve)),
    };
  }

  whenRunning(action: () => void): void {
    if (this.state === "runs") action();
    else if (this.state === "sleeps") this.#waiting.push(action);
  }

  sleep(): void {
    if (this.state !== "runs") return;
    this.state = "sleeps";
    this.silentSinceMs = this.clock.monotonicMs();
  }

  wake(): void {
    if (this.state !== "sleeps") return;
    this.state = "runs";
    this.silentSinceMs = null;
    for (const action of this.#waiting.splice(0)) action();
  }

  kill(): void {
    this.silentSinceMs ??= this.clock.monotonicMs();
    this.state = "dead";
    this.#waiting.length = 0;
  }
}

type Message = {
  readonly from: SimulatedProcess;
  readonly to: string;
  readonly what: string;
  /** What the receiver does; null once it has answered. */
  effect: (() => Promise<() => void>) | null;
  /** Hands the answer to the caller. */
  answer: (() => void) | null;
};

export class SimulatedNetwork {
  readonly clock = new ManualClock();
  /** Receivers that take nothing: `hung` keep messages for later, `refused` turn them away. */
  readonly hung = new Set<string>();
  readonly refused = new Set<string>();
  /** What took effect and what was answered, for whoever has to understand a failure. */
  readonly trace: string[] = [];
  readonly #messages: Message[] = [];

  /** Sends a call. It rejects with `expired()` at its deadline, and may take effect all the same, even later. */
  call<T>(
    from: SimulatedProcess,
    to: string,
    what: string,
    deadline: Deadline,
    effect: () => Promise<T>,
    expired: () => StoreError,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const run = () =>
        effect().then(
          (value) => () => resolve(value),
          (cause: unknown) => () => reject(cause as Error),
        );
      const refusable = async () =>
        this.refused.has(to)
          ? () => reject(new StoreError("node_unavailable", "The connection is refused", { retriable: true }))
          : await run();
      this.#messages.push({ from, to, what, effect: refusable, answer: null });
      const delayMs = Math.max(0, deadline.atMs - this.clock.monotonicMs());
      this.clock.startTimer(Math.min(delayMs, 1e9), () => from.whenRunning(() => reject(expired())));
    });
  }

  note(event: string): void {
    this.trace.push(`${this.clock.monotonicMs()} ${event}`);
  }

  /** Messages and answers that can be delivered now. */
  get deliverable(): number {
    return this.#ready().length;
  }

  /** Delivers one of what can be delivered, in the order of sending. False when there is nothing. */
  async deliver(choice: number): Promise<boolean> {
    const ready = this.#ready();
    const message = ready[choice % Math.max(1, ready.length)];
    if (message === undefined) return false;
    await this.#deliver(message);
    return true;
  }

  /** Delivers what there is from processes that `isFrom` picks. False when there is nothing. */
  async deliverAll(isFrom: (from: SimulatedProcess) => boolean): Promise<boolean> {
    const ready = this.#ready().filter(({ from }) => isFrom(from));
    for (const message of ready) await this.#deliver(message);
    return ready.length > 0;
  }

  /** Loses what `from` has sent and is not there yet. */
  lose(from: SimulatedProcess): void {
    const kept = this.#messages.filter((message) => message.from !== from || message.effect === null);
    this.#messages.splice(0, Infinity, ...kept);
  }

  async #deliver(message: Message): Promise<void> {
    if (message.effect !== null) {
      const { effect } = message;
      this.note(
        `${message.from.name} > ${message.to}: ${message.what}${this.refused.has(message.to) ? " (refused)" : ""}`,
      );
      message.effect = null;
      message.answer = await effect();
      return;
    }
    this.#messages.splice(this.#messages.indexOf(message), 1);
    this.note(`${message.from.name} < ${message.to}: ${message.what}`);
    message.answer?.();
  }

  #ready(): Message[] {
    return this.#messages.filter(({ from, to, effect }) =>
      effect === null ? from.state === "runs" : !this.hung.has(to),
    );
  }
}

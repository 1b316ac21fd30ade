/**
 * One process of a cluster: started in a process group of its own, so that a Ctrl-C in the terminal does not reach it
 * and its children end with it; waited for until it is ready; its output kept in a file.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, type WriteStream } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Guard } from "./guard.ts";
import type { ProcessPlan } from "./plan.ts";
import { isReady } from "./readiness.ts";

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type ProcessEvents = {
  /** One line of output, as it came. */
  onLine?(process: ClusterProcess, line: string): void;
  /** It ended without being asked to. */
  onDied?(process: ClusterProcess, exit: Exit): void;
};

/** Enough for the reason why something failed, and for a test that looks for a line. */
const LOG_CHARACTERS_KEPT = 1_048_576;
const LINES_KEPT = 2_000;
const LAST_LINES_SHOWN = 12;
const POLL_MS = 40;

export class ClusterProcess {
  readonly plan: ProcessPlan;
  readonly #guard: Guard;
  readonly #events: ProcessEvents;
  #child: ChildProcess | null = null;
  #exited: Promise<Exit> = Promise.resolve({ code: null, signal: null });
  #log = "";
  /** Of the present life alone. */
  #lines: string[] = [];
  #logFile: WriteStream | null = null;
  #isReady = false;
  /** Whether the end that comes next was asked for. */
  #ending = false;

  constructor(plan: ProcessPlan, guard: Guard, events: ProcessEvents = {}) {
    this.plan = plan;
    this.#guard = guard;
    this.#events = events;
  }

  get name(): string {
    return this.plan.name;
  }

  /** 0 when it does not run. */
  get pid(): number {
    return this.isRunning ? (this.#child?.pid ?? 0) : 0;
  }

  get isRunning(): boolean {
    const child = this.#child;
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** What it wrote last, of all its lives. */
  logs(): string {
    return this.#log;
  }

  /** Resolves when its present life has ended and all its output has been read. */
  get exited(): Promise<Exit> {
    return this.#exited;
  }

  /**
   * Starts it; resolves when it is ready for work.
   * @throws {Error} that names it and shows its last lines, when it ends or is not ready in time
   */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.isRunning) throw new Error(`${this.name} runs already`);
    this.#spawn();
    await this.#untilReady(signal ?? new AbortController().signal);
  }

  /** Asks for a clean end and waits for it; what takes longer than its plan allows is killed. */
  async stop(): Promise<Exit> {
    this.#ending = true;
    if (!this.isRunning) return await this.#exited;
    const overdue = setTimeout(() => this.#signalGroup("SIGKILL"), this.plan.stopMsMax);
    // A paused process would not take notice.
    this.#child?.kill("SIGCONT");
    this.#child?.kill(this.plan.stopSignal);
    const exit = await this.#exited;
    clearTimeout(overdue);
    return exit;
  }

  /** Ends it as a crash would; resolves when it is gone. */
  async kill9(): Promise<void> {
    this.#ending = true;
    this.#signalGroup("SIGKILL");
    await this.#exited;
  }

  /** Freezes it with all its children: its connections stay open and nothing answers. */
  pause(): void {
    this.#signalGroup("SIGSTOP");
  }

  resume(): void {
    this.#signalGroup("SIGCONT");
  }

  #spawn(): void {
    const { command, args, cwd, env, logFile } = this.plan;
    mkdirSync(dirname(logFile), { recursive: true });
    const child = spawn(command, [...args], { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const file = createWriteStream(logFile, { flags: "a" });
    file.on("error", () => {});
    this.#child = child;
    this.#logFile = file;
    this.#isReady = false;
    this.#ending = false;
    this.#lines = [];
    if (child.pid !== undefined) this.#guard.watch(child.pid);
    for (const output of [child.stdout, child.stderr]) {
      createInterface({ input: output }).on("line", (line) => this.#keep(line));
    }
    this.#exited = this.#watchEnd(child, file);
  }

  async #watchEnd(child: ChildProcess, file: WriteStream): Promise<Exit> {
    const exit = await new Promise<Exit>((resolve) => {
      child.once("close", (code, signal) => resolve({ code, signal }));
      child.once("error", (cause) => {
        this.#keep(`cannot be started: ${cause.message}`);
        if (child.pid === undefined) resolve({ code: null, signal: null });
      });
      // Its children would keep its ports, and its output open.
      child.once("exit", () => signalGroup(child.pid, "SIGKILL"));
    });
    if (child.pid !== undefined) this.#guard.forget(child.pid);
    await new Promise<void>((resolve) => file.end(() => resolve()));
    const wasReady = this.#isReady;
    this.#isReady = false;
    if (!this.#ending && wasReady) this.#events.onDied?.(this, exit);
    return exit;
  }

  #keep(line: string): void {
    this.#log = `${this.#log}${line}\n`.slice(-LOG_CHARACTERS_KEPT);
    if (this.#lines.push(line) > LINES_KEPT) this.#lines.shift();
    this.#logFile?.write(`${line}\n`);
    this.#events.onLine?.(this, line);
  }

  async #untilReady(signal: AbortSignal): Promise<void> {
    const overdueAt = performance.now() + this.plan.readyMsMax;
    while (!(await isReady(this.plan.readiness, this.#lines))) {
      const reason = !this.isRunning
        ? describeExit(await this.#exited)
        : signal.aborted
          ? "was stopped while it started"
          : performance.now() > overdueAt
            ? `was not ready after ${this.plan.readyMsMax / 1_000} s`
            : null;
      if (reason !== null) {
        await this.kill9();
        throw new Error(`${this.name} ${reason}${lastLinesOf(this.#lines)}`);
      }
      await sleep(POLL_MS);
    }
    this.#isReady = true;
  }

  #signalGroup(signal: NodeJS.Signals): void {
    if (this.isRunning) signalGroup(this.#child?.pid, signal);
  }
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The whole group is gone.
  }
}

/** `ended with exit code 2`, `was ended by SIGKILL`. */
export function describeExit({ code, signal }: Exit): string {
  if (signal !== null) return `was ended by ${signal}`;
  return code === null ? "could not be started" : `ended with exit code ${code}`;
}

function lastLinesOf(lines: readonly string[]): string {
  const shown = lines.slice(-LAST_LINES_SHOWN).map((line) => `\n  ${line}`);
  return shown.length === 0 ? " and wrote nothing" : `; it wrote:${shown.join("")}`;
}

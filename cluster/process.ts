/**
 * One process of a cluster: started in a process group of its own, so that a Ctrl-C in the terminal does not reach it
 * and its children end with it; waited for until it is ready; its output kept in a file.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, type WriteStream } from "node:fs";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
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
const OPENING_CHARACTERS_KEPT = 262_144;
const LAST_LINES_SHOWN = 12;
const POLL_MS = 40;

export class ClusterProcess {
  readonly plan: ProcessPlan;
  readonly #guard: Guard;
  readonly #events: ProcessEvents;
  #child: ChildProcess | null = null;
  #exited: Promise<Exit> = Promise.resolve({ code: null, signal: null });
  readonly #log = new LogTail(LOG_CHARACTERS_KEPT);
  /** What it has written in its present life before it was ready. */
  #opening = "";
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
    return this.#log.text();
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
    this.#opening = "";
    if (child.pid !== undefined) this.#guard.watch(child.pid);
    for (const output of [child.stdout, child.stderr]) readLines(output, (lines) => this.#keep(lines));
    this.#exited = this.#watchEnd(child, file);
  }

  async #watchEnd(child: ChildProcess, file: WriteStream): Promise<Exit> {
    const exit = await new Promise<Exit>((resolve) => {
      child.once("close", (code, signal) => resolve({ code, signal }));
      child.once("error", (cause) => {
        this.#keep(`cannot be started: ${cause.message}\n`);
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

  /** Takes whole lines. A busy process writes thousands in a second: they are looked at one by one only by who asks. */
  #keep(lines: string): void {
    this.#log.append(lines);
    if (!this.#isReady) this.#opening = (this.#opening + lines).slice(-OPENING_CHARACTERS_KEPT);
    this.#logFile?.write(lines);
    if (this.#events.onLine === undefined) return;
    for (const line of lines.trimEnd().split("\n")) this.#events.onLine(this, line);
  }

  async #untilReady(signal: AbortSignal): Promise<void> {
    const overdueAt = performance.now() + this.plan.readyMsMax;
    while (!(await isReady(this.plan.readiness, this.#opening))) {
      const reason = !this.isRunning
        ? describeExit(await this.#exited)
        : signal.aborted
          ? "was stopped while it started"
          : performance.now() > overdueAt
            ? `was not ready after ${this.plan.readyMsMax / 1_000} s`
            : null;
      if (reason !== null) {
        await this.kill9();
        throw new Error(`${this.name} ${reason}${lastLinesOf(this.#opening)}`);
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

function lastLinesOf(text: string): string {
  const lines = text.split("\n").filter((line) => line !== "");
  const shown = lines.slice(-LAST_LINES_SHOWN).map((line) => `\n  ${line}`);
  return shown.length === 0 ? " and wrote nothing" : `; it wrote:${shown.join("")}`;
}

/** Hands on what comes in pieces that end with a line, so that two outputs of a process never mix within one. */
function readLines(output: Readable, take: (lines: string) => void): void {
  let rest = "";
  output.setEncoding("utf8");
  output.on("data", (text: string) => {
    const end = text.lastIndexOf("\n") + 1;
    if (end > 0) take(rest + text.slice(0, end));
    rest = end > 0 ? text.slice(end) : rest + text;
  });
  output.once("end", () => {
    if (rest !== "") take(`${rest}\n`);
  });
}

/** The end of a log, kept in pieces: a text that is cut anew for every line would be copied for every line. */
class LogTail {
  readonly #charactersMax: number;
  #pieces: string[] = [];
  #characters = 0;

  constructor(charactersMax: number) {
    this.#charactersMax = charactersMax;
  }

  append(piece: string): void {
    this.#pieces.push(piece);
    this.#characters += piece.length;
    // Twice as much may gather, so that most calls cut nothing.
    if (this.#characters > 2 * this.#charactersMax) this.#pieces = [this.text()];
  }

  text(): string {
    const text = this.#pieces.join("").slice(-this.#charactersMax);
    this.#pieces = [text];
    this.#characters = text.length;
    return text;
  }
}

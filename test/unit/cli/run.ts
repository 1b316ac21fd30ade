import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import type { Maintenance } from "../../../src/cli/maintenance.ts";
import { runCli } from "../../../src/cli/program.ts";
import { collect } from "../../../src/cli/rest-client.ts";
import type { RunStore } from "../../../src/cli/serve.ts";
import { systemClock } from "../../../src/lib/clock.ts";

export type Outcome = { exitCode: number; stdout: Buffer; text: string; stderr: string };
export type RunOptions = {
  stdin?: AsyncIterable<Uint8Array> | string;
  signal?: AbortSignal;
  runStore?: RunStore;
  maintenance?: Maintenance;
};

export const NO_MAINTENANCE: Maintenance = {
  rebuildMetadata: () => Promise.reject(new Error("nothing is stored here")),
  checkNodes: () => Promise.reject(new Error("nothing is stored here")),
};

/** One command in this process, as a user would run it. */
export async function run(operands: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const output = collect(stdout, Infinity);
  const errors = collect(stderr, Infinity);
  const stdin = options.stdin ?? "";
  const io = {
    stdin: Readable.from(typeof stdin === "string" ? [Buffer.from(stdin)] : stdin),
    stdout,
    stderr,
    stderrIsTerminal: false,
    clock: systemClock,
    signal: options.signal ?? new AbortController().signal,
  };
  const { runStore = () => Promise.reject(new Error("no store here")), maintenance = NO_MAINTENANCE } = options;
  const exitCode = await runCli(operands, io, runStore, maintenance);
  stdout.end();
  stderr.end();
  const bytes = Buffer.from(await output);
  return { exitCode, stdout: bytes, text: bytes.toString(), stderr: Buffer.from(await errors).toString() };
}

/** A directory that is removed at the end. */
export async function temporaryDirectory(): Promise<AsyncDisposable & { path: string; file(name: string): string }> {
  const path = await mkdtemp(join(tmpdir(), "kintsugi-cli-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

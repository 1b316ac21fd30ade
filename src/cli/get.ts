import { randomBytes } from "node:crypto";
import { open, realpath, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { formatBytes } from "../lib/bytes.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { CliError, EXIT, usageError, type ExitCode } from "./exit.ts";
import { displayText, writeLine, writeOut, type CliIo } from "./io.ts";
import { startProgress } from "./progress.ts";
import type { DownloadAnswer } from "./store-client.ts";
import { createTally } from "./transfer.ts";

export type GetOptions = ClientOptions & {
  /** `first-last`, `first-` or `-suffix`, in bytes. */
  readonly range: string | null;
  /** Names of top-level fields. */
  readonly fields: readonly string[] | null;
};

/** `kintsugi get KEY [FILE|-]` */
export async function runGet(io: CliIo, key: string, file: string | null, options: GetOptions): Promise<ExitCode> {
  const toStdout = file === null || file === "-";
  if (toStdout && options.json) throw usageError("--json describes what was written to a FILE: name one");
  if (options.range !== null && options.fields !== null) throw usageError("--range and --fields exclude each other");
  const { bucket, range, fields } = options;
  if (range !== null) requireRange(range);
  await withClient(io, options, async (client) => {
    // The place to write to is settled first: a request that could not be stored is not worth making.
    const path = toStdout ? null : await pathFor(file, key);
    const answer = await client.get(key, { bucket, range, fields });
    const sink = path === null ? stdoutSink(io) : await openFileSink(path);
    try {
      const received = await receive(io, key, answer, sink);
      await sink.commit();
      if (path !== null) await report(io, { key, file: path, ...received }, options.json);
    } catch (cause) {
      await sink.discard();
      throw cause;
    }
  });
  return EXIT.ok;
}

type Received = { readonly sizeBytes: number; readonly sha256: string; readonly verified: boolean };

/**
 * Copies the answer and proves it. `verified` is false where there is nothing to compare with: part of an object was
 * asked for, or nobody has read the whole since a field of it changed.
 */
async function receive(io: CliIo, key: string, answer: DownloadAnswer, sink: Sink): Promise<Received> {
  const progress = startProgress(io, basename(key) || key, answer.sizeBytes);
  const tally = createTally(progress);
  try {
    for await (const chunk of tally.follow(answer.chunks)) await sink.write(chunk);
  } finally {
    progress.stop();
  }
  const sha256 = tally.sha256();
  if (answer.sha256 !== null && answer.sha256 !== sha256) {
    const message = `${JSON.stringify(key)} should have SHA-256 ${answer.sha256}, what arrived has ${sha256}`;
    throw new CliError(EXIT.damaged, "verification_failed", message);
  }
  return { sizeBytes: tally.sizeBytes, sha256, verified: answer.sha256 !== null };
}

async function report(io: CliIo, result: Received & { key: string; file: string }, json: boolean): Promise<void> {
  const proof = result.verified ? "SHA-256 verified" : "no SHA-256 to verify against";
  const text = `${displayText(result.file)}  ${formatBytes(result.sizeBytes)}  ${proof}`;
  await writeLine(io.stdout, json ? JSON.stringify(result) : text);
}

/** Where bytes go. Exactly one of `commit` and `discard` is called, once. */
type Sink = { write(chunk: Uint8Array): Promise<void>; commit(): Promise<void>; discard(): Promise<void> };

function stdoutSink(io: CliIo): Sink {
  return { write: (chunk) => writeOut(io.stdout, chunk), commit: async () => {}, discard: async () => {} };
}

/** Writes beside the file and renames at the end, so that the name never stands for half an object. */
async function openFileSink(file: string): Promise<Sink> {
  const existing = await stat(file).catch(() => null);
  // A link is followed, so that it stays a link.
  const path = existing === null ? file : await realpath(file);
  const temporary = join(dirname(path), `.${basename(path).slice(0, 64)}.${randomBytes(6).toString("hex")}.part`);
  // A device or a pipe is written into; replacing it by a file would break it.
  const inPlace = existing !== null && !existing.isFile();
  const handle = await open(inPlace ? path : temporary, inPlace ? "w" : "wx").catch((cause: unknown) => {
    throw unwritable(path, cause);
  });
  return {
    write: (chunk) => writeAll(handle, chunk),
    async commit() {
      if (existing !== null && !inPlace) await handle.chmod(existing.mode & 0o777);
      await handle.close();
      if (!inPlace) await rename(temporary, path);
    },
    async discard() {
      await handle.close().catch(() => {});
      if (!inPlace) await rm(temporary, { force: true });
    },
  };
}

/** Names what was asked for, not the file beside it. */
function unwritable(path: string, cause: unknown): CliError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  const reason = code === "ENOENT" ? `there is no folder ${JSON.stringify(dirname(path))}` : code;
  return new CliError(EXIT.failure, "file_unwritable", `Cannot write ${JSON.stringify(path)}: ${reason}`);
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let offset = 0; offset < chunk.length;) {
    offset += (await handle.write(chunk, offset)).bytesWritten;
  }
}

/** A directory takes the last part of the key as name. */
async function pathFor(file: string, key: string): Promise<string> {
  const existing = await stat(file).catch(() => null);
  if (existing === null && !file.endsWith("/")) return file;
  if (existing !== null && !existing.isDirectory()) return file;
  if (existing === null) throw usageError(`There is no directory ${JSON.stringify(file)}`);
  const name = basename(key);
  if (name === "" || name === "." || name === "..") {
    throw usageError(`The key ${JSON.stringify(key)} does not end in a file name: give a FILE`);
  }
  return join(file, name);
}

function requireRange(range: string): void {
  if (/^(\d+-\d*|-\d+)$/.test(range)) return;
  throw usageError(`--range ${JSON.stringify(range)} is not first-last, first- or -suffix, in bytes`);
}

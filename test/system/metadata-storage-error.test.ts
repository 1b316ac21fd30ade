import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import type { ObjectKey } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import { BUCKET } from "../support/sample-records.ts";
import type { StorageErrorReport } from "../support/storage-error-writer.ts";

const WRITER = join(import.meta.dirname, "../support/storage-error-writer.ts");
const canInject = spawnSync("strace", ["-V"]).status === 0;

// The counts are those of one thread of the pool that writes: late enough for some commits to succeed before.
test.for([
  ["a failing fdatasync", "fdatasync:error=EIO:when=4+"],
  ["one failed fdatasync", "fdatasync:error=EIO:when=4"],
  ["failing writes", "pwrite64:error=EIO:when=15+"],
  ["one failed write", "pwrite64:error=EIO:when=16"],
  ["a full disk", "pwrite64:error=ENOSPC:when=15+"],
] as const)("%s fences the store, and loses nothing acknowledged", async ([, injection], context) => {
  if (!canInject) return context.skip("strace is not installed");
  await using directory = await makeLmdbDirectory();
  const { keys, report, errors, signal } = await runTraced(injection, directory.path);
  // LMDB damages the heap when a write fails, which may abort the process, also after its report or instead of it.
  const mayAbort = injection.startsWith("pwrite64");
  expect(mayAbort ? [null, "SIGABRT", "SIGSEGV"] : [null], errors).toContain(signal);
  expect(report !== null || signal !== null).toBe(true);
  if (report !== null) checkReport(report);
  expect(errors).not.toContain("nhandled");

  const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
  for (const key of keys) {
    expect(await store.get(BUCKET, key as ObjectKey, deadlineIn(systemClock, 30_000)), key).not.toBeNull();
  }
  await store.close();
});

async function runTraced(injection: string, path: string) {
  const command = ["-f", "-o", "/dev/null", "-e", `inject=${injection}`, process.execPath, WRITER, path];
  const child = spawn("strace", command, { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code, signal] = (await exited) as [number | null, NodeJS.Signals | null];
  if (signal === null) expect(code, errors).toBe(0);
  const lines = output.trim().split("\n");
  const report = lines.find((line) => line.startsWith("{"));
  return {
    keys: lines.filter((line) => line !== report),
    report: report === undefined ? null : (JSON.parse(report) as StorageErrorReport),
    errors,
    signal,
  };
}

function checkReport(report: StorageErrorReport): void {
  expect(report.codes.length).toBeGreaterThan(0);
  for (const code of report.codes) expect(["metadata_unavailable", "wal_unavailable"]).toContain(code);
  expect([report.readCode, report.fenceCount]).toEqual(["metadata_unavailable", 1]);
}

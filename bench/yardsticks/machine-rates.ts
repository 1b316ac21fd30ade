/** What this machine can do at most, measured right beside the store: one thread hashing, one file being written. */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/lib/bytes.ts";
import { median } from "../statistics.ts";

const HASH_BYTES = 256 * MIB;
const DISK_BYTES = 256 * MIB;
const CHUNK = Buffer.alloc(MIB, "k");

/** Bytes per second of SHA-256 in one thread. */
export function sha256Rate(samples: number): number {
  return median(Array.from({ length: samples }, () => rateOf(HASH_BYTES, hashOnce)));
}

/** Bytes per second of a sequential write into `directory`, until fsync has returned. */
export function diskWriteRate(directory: string, samples: number): number {
  const path = join(directory, "disk-rate");
  try {
    return median(Array.from({ length: samples }, () => rateOf(DISK_BYTES, () => writeOnce(path))));
  } finally {
    rmSync(path, { force: true });
  }
}

function rateOf(bytes: number, work: () => void): number {
  const startedAt = performance.now();
  work();
  return (bytes / (performance.now() - startedAt)) * 1_000;
}

function hashOnce(): void {
  const hash = createHash("sha256");
  for (let done = 0; done < HASH_BYTES; done += CHUNK.length) hash.update(CHUNK);
  hash.digest();
}

function writeOnce(path: string): void {
  const file = openSync(path, "w");
  for (let done = 0; done < DISK_BYTES; done += CHUNK.length) writeSync(file, CHUNK);
  fsyncSync(file);
  closeSync(file);
}

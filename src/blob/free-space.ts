import { statfsSync } from "node:fs";
import type { Clock } from "../lib/clock.ts";

/** How long one look at the file system counts. */
const PROBE_INTERVAL_MS = 200;

/** Bytes an ordinary process may still write on the file system of `dir`. */
export function freeBytesOf(dir: string): number {
  const stats = statfsSync(dir);
  return stats.bavail * stats.bsize;
}

/**
 * Keeps a disk from being filled to its end: LMDB aborts the process when a write finds no room. Counts what was
 * accepted but is not on the disk yet, so a burst between two looks cannot slip below the watermark.
 */
export class FreeSpace {
  readonly #clock: Clock;
  readonly #freeBytesMin: number;
  readonly #probe: () => number;
  #probedAtMs = -Infinity;
  #freeBytes = 0;
  #inFlightBytes = 0;
  /** Written and settled since the last look: the file system may or may not count it already. */
  #settledBytes = 0;

  constructor(clock: Clock, freeBytesMin: number, probe: () => number) {
    this.#clock = clock;
    this.#freeBytesMin = freeBytesMin;
    this.#probe = probe;
  }

  /** Bytes free after all that was accepted. */
  freeBytes(): number {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#probedAtMs >= PROBE_INTERVAL_MS) {
      this.#freeBytes = this.#probe();
      this.#probedAtMs = nowMs;
      this.#settledBytes = 0;
    }
    return this.#freeBytes - this.#inFlightBytes - this.#settledBytes;
  }

  /** True when `bytes` more would leave less than the watermark. */
  isShort(bytes: number): boolean {
    return this.freeBytes() - bytes < this.#freeBytesMin;
  }

  begin(bytes: number): void {
    this.#inFlightBytes += bytes;
  }

  settle(bytes: number): void {
    this.#inFlightBytes -= bytes;
    this.#settledBytes += bytes;
  }
}

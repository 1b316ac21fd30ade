import { createRequire } from "node:module";
import { assert } from "../lib/assert.ts";
import { encodeParity, reconstructData } from "./galois-coder.ts";

/**
 * Reed-Solomon over one stripe: by the native addon, which works on libuv's threads while this one goes on, or in plain
 * TypeScript where the addon is missing, does not know the code, or costs more to call than the work. The bytes are
 * the same either way.
 *
 * Both functions start at once; the stripe must be left alone until they resolve, except that data cells may be read.
 */
export type ReedSolomon = {
  /** Fills the m parity cells that follow the k data cells. `cellBytes` is a multiple of 8. */
  encodeParity(stripe: Uint8Array, k: number, m: number, cellBytes: number): Promise<void>;
  /**
   * Rebuilds the `wanted` data shards in place from `have`: at least k shards, all of them right, none of them wanted.
   * What other missing cells hold afterwards is not defined.
   */
  reconstruct(
    stripe: Uint8Array,
    k: number,
    m: number,
    cellBytes: number,
    have: readonly number[],
    wanted: readonly number[],
  ): Promise<void>;
};

export type ReedSolomonOptions = {
  /** Leaves the addon out even where it is installed. */
  readonly forceFallback: boolean;
};

export function createReedSolomon(options: ReedSolomonOptions): ReedSolomon {
  const addon = options.forceFallback ? null : nativeAddon;
  return {
    async encodeParity(stripe, k, m, cellBytes) {
      if (addon === null || m > addon.MAX_M || k * m * cellBytes <= SMALL_WORK_BYTES) {
        encodeParity(stripe, k, m, cellBytes);
        return;
      }
      await runAddon(addon, stripe, {
        k,
        m,
        cellBytes,
        sources: maskBelow(k),
        targets: maskBelow(k + m) & ~maskBelow(k),
      });
    },
    async reconstruct(stripe, k, m, cellBytes, have, wanted) {
      assert(have.length >= k, "rebuilding needs k shards");
      if (wanted.length === 0) return;
      const sources = have.toSorted((a, b) => a - b);
      if (addon === null || m > addon.MAX_M || k * wanted.length * cellBytes <= SMALL_WORK_BYTES) {
        reconstructData(stripe, k, m, cellBytes, sources, wanted);
        return;
      }
      await runAddon(addon, stripe, {
        k,
        m,
        cellBytes,
        sources: maskOf(sources) | unneededParity(k, m, sources),
        targets: maskOf(wanted),
      });
    },
  };
}

/** Whether the native addon is installed and loads on this machine and runtime. */
export function nativeAddonAvailable(): boolean {
  return nativeAddon !== null;
}

/** Up to this many bytes combined, a call of the addon costs more than the coding itself. */
const SMALL_WORK_BYTES = 64 * 1_024;

type Addon = {
  readonly MAX_M: number;
  create(k: number, m: number): Buffer;
  encode(
    context: Buffer,
    sources: number,
    targets: number,
    buffer: Buffer,
    bufferOffset: number,
    bufferSize: number,
    parity: Buffer,
    parityOffset: number,
    paritySize: number,
    callback: (error?: Error | null) => void,
  ): void;
};

const nativeAddon = loadAddon();

function loadAddon(): Addon | null {
  try {
    return createRequire(import.meta.url)("@ronomon/reed-solomon") as Addon;
  } catch {
    // An optional dependency: it is absent where no compiler was at hand, and then the fallback works.
    return null;
  }
}

const contexts = new Map<number, Buffer>();

function contextOf(addon: Addon, k: number, m: number): Buffer {
  const key = k * 32 + m;
  const known = contexts.get(key);
  if (known !== undefined) return known;
  const context = addon.create(k, m);
  contexts.set(key, context);
  return context;
}

type AddonWork = {
  readonly k: number;
  readonly m: number;
  readonly cellBytes: number;
  /** Shards as bits of an integer. */
  readonly sources: number;
  readonly targets: number;
};

function runAddon(addon: Addon, stripe: Uint8Array, work: AddonWork): Promise<void> {
  const { k, m, cellBytes, sources, targets } = work;
  const buffer = Buffer.from(stripe.buffer, stripe.byteOffset, stripe.byteLength);
  const dataBytes = k * cellBytes;
  const context = contextOf(addon, k, m);
  return new Promise((resolve, reject) => {
    addon.encode(context, sources, targets, buffer, 0, dataBytes, buffer, dataBytes, m * cellBytes, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/**
 * The addon recomputes every parity shard that is not named as a source. It decodes from the first k sources alone, so
 * parity shards behind those are named too: their bytes are not read, and no work is spent on them.
 */
function unneededParity(k: number, m: number, sources: readonly number[]): number {
  const lastUsed = Math.max(sources[k - 1] as number, k - 1);
  return maskBelow(k + m) & ~maskBelow(lastUsed + 1);
}

function maskBelow(count: number): number {
  return 2 ** count - 1;
}

function maskOf(shards: readonly number[]): number {
  return shards.reduce((mask, shard) => mask | (1 << shard), 0);
}

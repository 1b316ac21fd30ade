import type { Stripe } from "../coding/coder.ts";
import { cellChecksum } from "../domain/checksum.ts";
import { dataShards, stripeShape } from "../domain/geometry.ts";
import type { StripeShape } from "../domain/geometry.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";
import type { CellRoom } from "./cell-race.ts";
import { CellRace } from "./cell-race.ts";
import type { ObjectDeps } from "./deps.ts";
import { reserveMemory } from "./reserve-memory.ts";
import { readStripe } from "./read-stripe.ts";
import { chooseShards, isWithinReach } from "./shard-choice.ts";
import { StripeRing } from "./stripe-ring.ts";
import { stripeMemoryBytes } from "./upload-content.ts";

/** One stripe is being sent, the next one is being read. */
const STRIPES_PER_READ = 2;

/** Content that can be read. Where there are whole copies beside its shards they are preferred: they need no decoding. */
export type StoredContent = { readonly set: BlobSet; readonly copy: BlobSet | null };

/**
 * The bytes [start, end) of a content, verified cell by cell before they are given out. Only the cells that the range
 * touches are read. Each chunk is the consumer's until it asks for the next.
 * @throws {StoreError} `object_damaged`, `overloaded`
 */
export async function* readContent(
  deps: ObjectDeps,
  content: StoredContent,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  if (start >= end) return;
  const small = await readPackedCopy(deps, content.set);
  if (small !== null) {
    yield small.subarray(start, end);
    return;
  }
  const whole = await readKept(deps, content, start, end);
  if (whole === null) {
    yield* streamBest(deps, content, start, end);
    return;
  }
  // A slow consumer may hold on to it for longer than the cache does.
  const permit = await reserveMemory(deps, end - start);
  try {
    yield whole.subarray(start, end);
  } finally {
    permit.release();
  }
}

/** The content out of the cache; a read of the whole brings it there. Null where it has to be streamed. */
async function readKept(
  deps: ObjectDeps,
  content: StoredContent,
  start: number,
  end: number,
): Promise<Uint8Array | null> {
  const { cache } = deps;
  const { set } = content;
  if (!cache.admits(set)) return null;
  if (end - start < set.sizeBytes) return cache.find(set);
  return await cache.readThrough(set, async () => {
    const whole = Buffer.allocUnsafeSlow(set.sizeBytes);
    let filled = 0;
    for await (const chunk of streamBest(deps, content, start, end)) {
      whole.set(chunk, filled);
      filled += chunk.length;
    }
    assert(filled === set.sizeBytes, "what is kept was read to the last byte");
    return whole;
  });
}

/** From the whole copies while there are good ones; the shards go on where they end. */
async function* streamBest(
  deps: ObjectDeps,
  { set, copy }: StoredContent,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  let at = start;
  if (copy !== null && isWithinReach(deps, copy)) {
    try {
      for await (const chunk of streamContent(deps, copy, start, end)) {
        yield chunk;
        at += chunk.length;
      }
      return;
    } catch (cause) {
      if (!isStoreError(cause, "object_damaged")) throw cause;
    }
  }
  yield* streamContent(deps, set, at, end);
}

async function* streamContent(
  deps: ObjectDeps,
  set: BlobSet,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  const ring = await StripeRing.open(
    deps,
    stripeMemoryBytes(set.redundancy, set.cellBytes, set.sizeBytes),
    STRIPES_PER_READ,
  );
  const choice = chooseShards(deps, set, Math.min(set.sizeBytes, set.cellBytes));
  const fullBytes = set.cellBytes * dataShards(set.redundancy);
  const lastIndex = Math.floor((end - 1) / fullBytes);
  let next: Promise<Uint8Array> | null = null;
  let reading: Stripe | null = null;
  const begin = async (index: number, stripe: Stripe): Promise<Uint8Array> => {
    const shape = stripeShape(set.sizeBytes, set.redundancy, set.cellBytes, index);
    const from = Math.max(start, shape.offset) - shape.offset;
    const to = Math.min(end, shape.offset + shape.dataBytes) - shape.offset;
    await readStripe(deps, set, shape, touchedCells(set, shape, from, to), choice, stripe);
    return stripe.bytes.subarray(from, to);
  };
  try {
    for (let index = Math.floor(start / fullBytes); index <= lastIndex; index += 1) {
      const stripe: Stripe = reading ?? (await ring.take());
      const chunk = await (next ?? begin(index, stripe));
      // Reading ahead is a luxury: without a free stripe the next one waits for this one.
      reading = index < lastIndex ? ring.tryTake() : null;
      next = reading === null ? null : begin(index + 1, reading);
      next?.catch(() => {});
      yield chunk;
      ring.give(stripe);
    }
  } finally {
    await next?.catch(() => {});
    ring.close();
  }
}

/** Data cells of a stripe that hold its bytes [from, to). */
function touchedCells(set: BlobSet, shape: StripeShape, from: number, to: number): number[] {
  if (set.redundancy.scheme === "replication") return [0];
  const first = Math.floor(from / shape.cellBytes);
  const last = Math.floor((to - 1) / shape.cellBytes);
  return Array.from({ length: last - first + 1 }, (_, offset) => first + offset);
}

/** The whole of a small replicated set from memory or any good copy, without a stripe; null for any other set. */
export async function readPackedCopy(deps: ObjectDeps, set: BlobSet): Promise<Uint8Array | null> {
  const { cache } = deps;
  if (set.redundancy.scheme !== "replication" || set.sizeBytes > LIMITS.packedBlobBytesMax) return null;
  const kept = cache.admits(set)
    ? await cache.readThrough(set, async () => new Uint8Array(await raceCopies(deps, set)))
    : null;
  return kept ?? (await raceCopies(deps, set));
}

async function raceCopies(deps: ObjectDeps, set: BlobSet): Promise<Uint8Array> {
  const { sizeBytes } = set;
  const goal = { set, cellIndex: 0, cellBytes: sizeBytes, wanted: null, needed: 1, roomFor: () => OWN_MEMORY };
  const race = new CellRace(deps, goal, chooseShards(deps, set, sizeBytes));
  try {
    for (;;) {
      const [copy] = await race.gather();
      if (copy === undefined) break;
      const { shard, cell } = copy;
      if (cellChecksum(cell.payload, blobIdOf(set.txid, set.part, shard), 0) === cell.checksum) return cell.payload;
      race.discard(shard);
    }
  } finally {
    race.close();
  }
  throw new StoreError("object_damaged", "Cannot read the object: no good copy of it is left", { retriable: true });
}

const OWN_MEMORY: CellRoom = { into: undefined, release() {} };

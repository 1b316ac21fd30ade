import type { Stripe } from "../coding/coder.ts";
import { cellChecksum } from "../domain/checksum.ts";
import { dataShards, stripeShape } from "../domain/geometry.ts";
import type { StripeShape } from "../domain/geometry.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { LIMITS } from "../limits.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { ObjectDeps } from "./deps.ts";
import { chooseShards, readStripe } from "./read-stripe.ts";
import { StripeRing } from "./stripe-ring.ts";
import { stripeMemoryBytes } from "./upload-content.ts";

/** One stripe is being sent, the next one is being read. */
const STRIPES_PER_READ = 2;

/**
 * The bytes [start, end) of a blob set, verified cell by cell before they are given out. Only the cells that the range
 * touches are read. Each chunk is the consumer's until it asks for the next.
 * @throws {StoreError} `object_damaged`, `overloaded`
 */
export async function* readContent(
  deps: ObjectDeps,
  set: BlobSet,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  if (start >= end) return;
  const small = await readPackedCopy(deps, set);
  if (small !== null) {
    yield small.subarray(start, end);
    return;
  }
  const ring = await StripeRing.open(
    deps,
    stripeMemoryBytes(set.redundancy, set.cellBytes, set.sizeBytes),
    STRIPES_PER_READ,
  );
  const choice = chooseShards(deps, set);
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

/** The whole of a small replicated set from any good copy, without a stripe; null for any other set. */
export async function readPackedCopy(deps: ObjectDeps, set: BlobSet): Promise<Uint8Array | null> {
  if (set.redundancy.scheme !== "replication" || set.sizeBytes > LIMITS.packedBlobBytesMax) return null;
  const choice = chooseShards(deps, set);
  for (const shard of choice.order) {
    const bytes = await readCopy(deps, set, shard);
    if (bytes !== null) return bytes;
    deps.metrics.degradedReads.inc();
  }
  throw new StoreError("object_damaged", "Cannot read the object: no good copy of it is left", { retriable: true });
}

async function readCopy(deps: ObjectDeps, set: BlobSet, shard: number): Promise<Uint8Array | null> {
  const node = set.nodes[shard] as NodeName;
  const id = blobIdOf(set.txid, set.part, shard);
  try {
    const [cell] =
      (await deps.nodes.get(node)?.readCells(id, 0, 1, deadlineIn(deps.clock, deps.timeouts.nodeMs))) ?? [];
    if (cell?.payload.length === set.sizeBytes && cellChecksum(cell.payload, id, 0) === cell.checksum)
      return cell.payload;
    deps.metrics.cellsDamaged.inc({ node });
    deps.logger.warn({ node, blob: id, cell: 0 }, "a cell is damaged");
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    deps.metrics.storageErrors.inc({ node, code: cause.code });
    deps.logger.warn({ node, blob: id, code: cause.code }, "a node did not give a cell");
  }
  return null;
}

import type { Stripe } from "../coding/coder.ts";
import type { Cell } from "../domain/blob.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { StripeShape } from "../domain/geometry.ts";
import { dataShards } from "../domain/geometry.ts";
import type { NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { ObjectDeps } from "./deps.ts";

/**
 * Which blobs of a set are worth asking. A blob that failed once in a transfer is not asked again for later stripes:
 * with nodes gone, every stripe costs what the first one cost after its detour.
 */
export type ShardChoice = {
  /** Blob indexes in the order they are tried. */
  readonly order: readonly number[];
  readonly failed: Set<number>;
};

export function chooseShards(deps: ObjectDeps, set: BlobSet): ShardChoice {
  const known = deps.membership.snapshot();
  const order: number[] = [];
  for (const [index, name] of set.nodes.entries()) {
    const state = name === null ? null : known.find((node) => node.name === name)?.state;
    if (state === "live" || state === "full") order.push(index);
  }
  // Replicas are alike: spreading the first choice spreads the load. Data shards come first, as they need no decoding.
  if (set.redundancy.scheme === "replication" && order.length > 1) {
    const turn = Math.floor(deps.random.next() * order.length);
    return { order: [...order.slice(turn), ...order.slice(0, turn)], failed: new Set() };
  }
  return { order, failed: new Set() };
}

/**
 * Reads one stripe into `stripe` so that the content of the data cells `wanted` is there, verified. Missing and damaged
 * cells are replaced by others and decoded.
 * @throws {StoreError} `object_damaged` when fewer cells than needed are left
 */
export async function readStripe(
  deps: ObjectDeps,
  set: BlobSet,
  shape: StripeShape,
  wanted: readonly number[],
  choice: ShardChoice,
  stripe: Stripe,
): Promise<void> {
  const cells = new Map<number, Cell>();
  let toRead = firstShards(set, wanted, choice);
  for (;;) {
    await readCells(deps, set, shape, toRead, choice, stripe, cells);
    const needed = set.redundancy.scheme === "replication" ? 1 : countNeeded(set, wanted, cells);
    if (cells.size >= needed) {
      const result = await deps.coder.verifyAndDecode(stripe, {
        txid: set.txid,
        part: set.part,
        redundancy: set.redundancy,
        stripeIndex: shape.index,
        cellBytes: shape.cellBytes,
        cells: [...cells].map(([shardIndex, cell]) => ({ shardIndex, checksum: cell.checksum })),
        wanted,
      });
      for (const shard of result.damaged) {
        noteDamage(deps, set, shard, shape.index);
        choice.failed.add(shard);
        cells.delete(shard);
      }
      if (result.ok) return;
    }
    toRead = moreShards(choice, cells, set.redundancy.scheme === "replication" ? 1 : dataShards(set.redundancy));
    if (toRead.length === 0) throw damaged(set, cells.size);
    deps.metrics.degradedReads.inc();
  }
}

/** The cells to try first: just those wanted when all of them can be asked, else as many as decoding takes. */
function firstShards(set: BlobSet, wanted: readonly number[], choice: ShardChoice): number[] {
  const usable = choice.order.filter((shard) => !choice.failed.has(shard));
  if (set.redundancy.scheme === "replication") return usable.slice(0, 1);
  if (wanted.every((shard) => usable.includes(shard))) return [...wanted];
  return usable.slice(0, dataShards(set.redundancy));
}

/** All wanted cells read: nothing to decode. Otherwise k of any kind. */
function countNeeded(set: BlobSet, wanted: readonly number[], cells: ReadonlyMap<number, Cell>): number {
  return wanted.every((shard) => cells.has(shard)) ? wanted.length : dataShards(set.redundancy);
}

function moreShards(choice: ShardChoice, cells: ReadonlyMap<number, Cell>, needed: number): number[] {
  return choice.order
    .filter((shard) => !choice.failed.has(shard) && !cells.has(shard))
    .slice(0, Math.max(1, needed - cells.size));
}

async function readCells(
  deps: ObjectDeps,
  set: BlobSet,
  shape: StripeShape,
  shards: readonly number[],
  choice: ShardChoice,
  stripe: Stripe,
  cells: Map<number, Cell>,
): Promise<void> {
  await Promise.all(
    shards.map(async (shard) => {
      const at = set.redundancy.scheme === "replication" ? 0 : shard * shape.cellBytes;
      const into = stripe.bytes.subarray(at, at + shape.cellBytes);
      const cell = await readCell(deps, set, shard, shape, into);
      if (cell === null) choice.failed.add(shard);
      else cells.set(shard, cell);
    }),
  );
}

/** One cell into its place, or null when its node cannot give it. */
async function readCell(
  deps: ObjectDeps,
  set: BlobSet,
  shard: number,
  shape: StripeShape,
  into: Uint8Array,
): Promise<Cell | null> {
  const node = set.nodes[shard] as NodeName;
  const id = blobIdOf(set.txid, set.part, shard);
  try {
    const deadline = deadlineIn(deps.clock, deps.timeouts.nodeMs);
    const [cell] = (await deps.nodes.get(node)?.readCells(id, shape.index, 1, deadline, into)) ?? [];
    if (cell?.payload.length === shape.cellBytes) return cell;
    noteDamage(deps, set, shard, shape.index);
    return null;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    deps.metrics.storageErrors.inc({ node, code: cause.code });
    deps.logger.warn({ node, blob: id, code: cause.code }, "a node did not give a cell");
    if (cause.code === "node_fenced") deps.membership.report(node, "fenced");
    return null;
  }
}

function noteDamage(deps: ObjectDeps, set: BlobSet, shard: number, stripeIndex: number): void {
  const node = set.nodes[shard] ?? "unknown";
  deps.metrics.cellsDamaged.inc({ node });
  deps.logger.warn({ node, blob: blobIdOf(set.txid, set.part, shard), cell: stripeIndex }, "a cell is damaged");
}

function damaged(set: BlobSet, cellsLeft: number): StoreError {
  return new StoreError(
    "object_damaged",
    `Cannot read the object: ${cellsLeft} cells of a stripe are left, ${dataShards(set.redundancy)} are needed`,
    { retriable: true, details: { cellsLeft, cellsNeeded: dataShards(set.redundancy) } },
  );
}

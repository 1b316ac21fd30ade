import type { Stripe } from "../coding/coder.ts";
import { StoreError } from "../domain/errors.ts";
import type { StripeShape } from "../domain/geometry.ts";
import { dataShards } from "../domain/geometry.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import type { CellRoom, GatheredCell } from "./cell-race.ts";
import { CellRace } from "./cell-race.ts";
import type { ObjectDeps } from "./deps.ts";
import type { ShardChoice } from "./shard-choice.ts";

/**
 * Reads one stripe into `stripe` so that the content of the data cells `wanted` is there, verified. Missing, damaged and
 * late cells are replaced by others and decoded. When this settles nothing writes to the stripe any more.
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
  const { cellBytes } = shape;
  const isCoded = set.redundancy.scheme === "ec";
  const needed = dataShards(set.redundancy);
  const goal = {
    ...{ set, cellIndex: shape.index, cellBytes, wanted: isCoded ? wanted : null, needed },
    roomFor: isCoded ? placesOf(stripe, cellBytes) : copyRooms(deps, stripe, cellBytes),
  };
  const race = new CellRace(deps, goal, choice);
  try {
    for (;;) {
      const gathered = await race.gather();
      if (gathered.length < needed && !wanted.every((shard) => gathered.some((cell) => cell.shard === shard))) {
        throw damaged(gathered.length, needed);
      }
      const cells = isCoded ? gathered : placeCopy(stripe, gathered);
      const result = await deps.coder.verifyAndDecode(stripe, {
        ...{ txid: set.txid, part: set.part, redundancy: set.redundancy, stripeIndex: shape.index, cellBytes, wanted },
        cells: cells.map(({ shard, cell }) => ({ shardIndex: shard, checksum: cell.checksum })),
      });
      for (const shard of result.damaged) race.discard(shard);
      if (result.ok) return;
    }
  } finally {
    race.close();
  }
}

/** Each cell of a code has a place of its own in the stripe. */
function placesOf(stripe: Stripe, cellBytes: number): (shard: number) => CellRoom {
  return (shard) => ({ into: stripe.bytes.subarray(shard * cellBytes, (shard + 1) * cellBytes), release() {} });
}

/**
 * Copies share the one place that a stripe of replicated content has: the first to be asked reads into it, further ones
 * into memory of their own while the process has some to spare.
 */
function copyRooms(deps: ObjectDeps, stripe: Stripe, cellBytes: number): () => CellRoom | null {
  let isPlaceTaken = false;
  return () => {
    if (isPlaceTaken) {
      const permit = deps.memory.tryAcquire(cellBytes);
      return permit === null ? null : { into: undefined, release: () => permit.release() };
    }
    isPlaceTaken = true;
    return {
      into: stripe.bytes.subarray(0, cellBytes),
      release: () => {
        isPlaceTaken = false;
      },
    };
  };
}

/** One of the copies, where the coder expects it: what came elsewhere is moved there, over a copy that was not good. */
function placeCopy(stripe: Stripe, copies: readonly GatheredCell[]): GatheredCell[] {
  const isInPlace = ({ cell: { payload } }: GatheredCell) =>
    payload.buffer === stripe.memory && payload.byteOffset === stripe.bytes.byteOffset;
  const copy = copies.find(isInPlace) ?? copies[0];
  assert(copy !== undefined, "a copy was gathered");
  if (!isInPlace(copy)) stripe.bytes.set(copy.cell.payload);
  return [copy];
}

function damaged(cellsLeft: number, cellsNeeded: number): StoreError {
  return new StoreError(
    "object_damaged",
    `Cannot read the object: ${cellsLeft} cells of a stripe are left, ${cellsNeeded} are needed`,
    { retriable: true, details: { cellsLeft, cellsNeeded } },
  );
}

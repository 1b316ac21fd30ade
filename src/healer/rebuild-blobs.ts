import type { BlobStore, BlobWriter } from "../blob/blob-store.ts";
import type { Stripe } from "../coding/coder.ts";
import type { CellChecksum } from "../domain/blob.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { StripeShape } from "../domain/geometry.ts";
import { blobPayloadBytes, dataShards, stripeCount, stripeShape } from "../domain/geometry.ts";
import type { NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Throttle } from "../lib/throttle.ts";
import { LIMITS } from "../limits.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { readContent } from "../object/read-content.ts";
import { readStripe } from "../object/read-stripe.ts";
import { chooseShards } from "../object/shard-choice.ts";
import { StripeRing } from "../object/stripe-ring.ts";
import { cellsOf, stripeMemoryBytes } from "../object/upload-content.ts";

/** One blob that is to be made, whole or in part. */
export type Rebuild =
  | { readonly kind: "blob"; readonly index: number; readonly node: NodeName }
  | { readonly kind: "cells"; readonly index: number; readonly node: NodeName; readonly cells: readonly number[] };

export type RebuildOutcome = {
  /** Payload bytes that nodes made durable. */
  readonly bytes: number;
  /** Blobs that could not be made. */
  readonly failed: ReadonlySet<number>;
};

/**
 * Makes blobs of a set anew from its others: every stripe is read once, verified, and serves all of them. The bytes are
 * those that were there before, so they go under the same ids with the same descriptor. One node that fails costs its
 * own blob alone.
 * @throws {StoreError} `object_damaged` when fewer cells of a stripe are left than it takes, `overloaded`
 */
export async function rebuildBlobs(
  deps: RebuildDeps,
  source: BlobSet,
  descriptor: Uint8Array,
  rebuilds: readonly Rebuild[],
  signal: AbortSignal,
): Promise<RebuildOutcome> {
  const choice = chooseShards(deps, source, Math.min(source.sizeBytes, source.cellBytes));
  const wanted = Array.from({ length: dataShards(source.redundancy) }, (_, shard) => shard);
  const fill: Fill = (stripe, shape) => readStripe(deps, source, shape, wanted, choice, stripe);
  return await makeBlobs(deps, { set: source, descriptor, rebuilds, fill }, signal);
}

/**
 * Makes blobs of a set from the same content in another set.
 * @throws {StoreError} `object_damaged`, `overloaded`
 */
export async function transcodeBlobs(
  deps: RebuildDeps,
  { from, set, descriptor }: { readonly from: BlobSet; readonly set: BlobSet; readonly descriptor: Uint8Array },
  rebuilds: readonly Rebuild[],
  signal: AbortSignal,
): Promise<RebuildOutcome> {
  const source = new ContentSource(deps, from);
  try {
    const fill: Fill = (stripe, { offset, dataBytes }) => source.fill(stripe.bytes.subarray(0, dataBytes), offset);
    return await makeBlobs(deps, { set, descriptor, rebuilds, fill }, signal);
  } finally {
    await source.close();
  }
}

/** Content read from front to back, with leaps where somebody wants less than all of it. */
class ContentSource {
  readonly #deps: ObjectDeps;
  readonly #set: BlobSet;
  #chunks: AsyncGenerator<Uint8Array, void, void> | null = null;
  #left: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(deps: ObjectDeps, set: BlobSet) {
    this.#deps = deps;
    this.#set = set;
  }

  async fill(into: Uint8Array, offset: number): Promise<void> {
    if (this.#chunks === null || this.#at !== offset) {
      await this.close();
      this.#chunks = readContent(this.#deps, { set: this.#set, copy: null }, offset, this.#set.sizeBytes);
      this.#left = new Uint8Array(0);
      this.#at = offset;
    }
    for (let filled = 0; filled < into.length;) {
      if (this.#left.length === 0) {
        const next = await this.#chunks.next();
        assert(next.done !== true, "the content is as long as its record says");
        this.#left = next.value;
      }
      const taken = this.#left.subarray(0, into.length - filled);
      into.set(taken, filled);
      filled += taken.length;
      this.#left = this.#left.subarray(taken.length);
    }
    this.#at += into.length;
  }

  async close(): Promise<void> {
    await this.#chunks?.return();
    this.#chunks = null;
  }
}

type RebuildDeps = ObjectDeps & { readonly throttle: Throttle };

/** Brings the content bytes of one stripe into memory. */
type Fill = (stripe: Stripe, shape: StripeShape) => Promise<void>;

type Making = {
  readonly set: BlobSet;
  readonly descriptor: Uint8Array;
  readonly rebuilds: readonly Rebuild[];
  readonly fill: Fill;
};

async function makeBlobs(
  deps: RebuildDeps,
  { set, descriptor, rebuilds, fill }: Making,
  signal: AbortSignal,
): Promise<RebuildOutcome> {
  const { redundancy, cellBytes, sizeBytes, txid, part } = set;
  const targets = rebuilds.map((rebuild) => new Target(deps, set, rebuild));
  const ring = await StripeRing.open(deps, stripeMemoryBytes(redundancy, cellBytes, Math.max(1, sizeBytes)), 1);
  const upload = await deps.coder.openUpload({ txid, part, redundancy, split: null, md5: false });
  let isDone = false;
  try {
    const stripe = await ring.take();
    for (const index of stripesFor(set, rebuilds)) {
      if (signal.aborted) throw givenUp();
      const shape = stripeShape(sizeBytes, redundancy, cellBytes, index);
      await deps.throttle.take(shape.cellBytes * (dataShards(redundancy) + targets.length), signal);
      await fill(stripe, shape);
      const { dataBytes } = shape;
      const checksums = await upload.encode(stripe, { stripeIndex: index, dataBytes, cellBytes: shape.cellBytes });
      const cells = cellsOf(stripe, redundancy, shape.cellBytes);
      await Promise.all(
        targets.map((target) =>
          target.take(shape, cells[target.index] as Uint8Array, checksums[target.index] as CellChecksum),
        ),
      );
    }
    if (signal.aborted) throw givenUp();
    await Promise.all(targets.map((target) => target.finish(descriptor)));
    isDone = true;
  } finally {
    if (!isDone) await Promise.all(targets.map((target) => target.abort()));
    void upload.close();
    ring.close();
  }
  const failed = new Set(targets.filter((target) => target.failed).map(({ index }) => index));
  return { bytes: targets.reduce((sum, target) => sum + (target.failed ? 0 : target.bytes), 0), failed };
}

/** All stripes where a whole blob is wanted, else those of the cells. */
function stripesFor({ sizeBytes, redundancy, cellBytes }: BlobSet, rebuilds: readonly Rebuild[]): number[] {
  const count = stripeCount(sizeBytes, redundancy, cellBytes);
  if (rebuilds.some(({ kind }) => kind === "blob")) return Array.from({ length: count }, (_, index) => index);
  const cells = rebuilds.flatMap((rebuild) => (rebuild.kind === "cells" ? rebuild.cells : []));
  return [...new Set(cells)].filter((index) => index < count).sort((a, b) => a - b);
}

/** A blob on its way to its node. Once something has failed it takes nothing more. */
class Target {
  readonly index: number;
  readonly #deps: ObjectDeps;
  readonly #set: BlobSet;
  readonly #rebuild: Rebuild;
  readonly #store: BlobStore | undefined;
  #writer: BlobWriter | null = null;
  #packed: { readonly payload: Uint8Array; readonly checksum: CellChecksum }[] | null = null;
  failed = false;
  bytes = 0;

  constructor(deps: ObjectDeps, set: BlobSet, rebuild: Rebuild) {
    this.#deps = deps;
    this.#set = set;
    this.#rebuild = rebuild;
    this.index = rebuild.index;
    this.#store = deps.nodes.get(rebuild.node);
    const { sizeBytes, redundancy, cellBytes } = set;
    const isPacked =
      stripeCount(sizeBytes, redundancy, cellBytes) <= 1 &&
      blobPayloadBytes(sizeBytes, redundancy, cellBytes) <= LIMITS.packedBlobBytesMax;
    if (isPacked) this.#packed = [];
  }

  async take(shape: StripeShape, payload: Uint8Array, checksum: CellChecksum): Promise<void> {
    await this.#attempt(async (store) => {
      const rebuild = this.#rebuild;
      if (rebuild.kind === "cells") {
        if (!rebuild.cells.includes(shape.index)) return;
        await store.mendCell(this.#id(), shape.index, payload, this.#deadline());
      } else if (this.#packed !== null) {
        // The stripe is used again only after `finish`: this is its only one.
        this.#packed.push({ payload, checksum });
      } else {
        this.#writer ??= await store.openWriter(this.#id(), this.#deps.timeouts.nodeMs);
        await this.#writer.writeCell(shape.index, payload, checksum);
      }
      this.bytes += payload.length;
    });
  }

  async finish(descriptor: Uint8Array): Promise<void> {
    await this.#attempt(async (store) => {
      if (this.#rebuild.kind === "cells") return;
      if (this.#packed !== null) {
        await store.put({ id: this.#id(), descriptor, cells: this.#packed }, this.#deadline());
        return;
      }
      assert(this.#writer !== null, "a blob that is not packed has cells");
      await this.#writer.seal(descriptor);
    });
  }

  async abort(): Promise<void> {
    await this.#writer?.abort().catch(() => {});
  }

  async #attempt(step: (store: BlobStore) => Promise<void>): Promise<void> {
    if (this.failed) return;
    try {
      if (this.#store === undefined) throw new StoreError("node_unavailable", "The node has left");
      await step(this.#store);
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      this.failed = true;
      const { node } = this.#rebuild;
      this.#deps.logger.warn({ node, blob: this.#id(), code: cause.code }, "a node did not take a rebuilt blob");
      await this.abort();
    }
  }

  #id() {
    return blobIdOf(this.#set.txid, this.#set.part, this.index);
  }

  #deadline() {
    return deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs);
  }
}

function givenUp(): StoreError {
  return new StoreError("shutting_down", "Mending was stopped on the way", { retriable: true });
}

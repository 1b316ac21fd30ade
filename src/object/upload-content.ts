import type { CodingUpload, Stripe } from "../coding/coder.ts";
import type { Redundancy } from "../domain/manifest.ts";
import { dataShards, tailCellBytes } from "../domain/geometry.ts";
import { LIMITS } from "../limits.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import type { BodyReader } from "./body-reader.ts";
import type { StripeRing } from "./stripe-ring.ts";

/** Stripes one transfer may have in rotation: one fills, one is coded, one is on its way to the nodes. */
export const STRIPES_PER_TRANSFER = 3;

export type ContentSink = {
  readonly upload: CodingUpload;
  readonly writer: BlobSetWriter;
  readonly redundancy: Redundancy;
  readonly cellBytes: number;
};

/** Memory of one stripe for content of `sizeBytes` (null: unknown): data cells, and parity where there is any. */
export function stripeMemoryBytes(redundancy: Redundancy, cellBytes: number, sizeBytes: number | null): number {
  const fullBytes = cellBytes * dataShards(redundancy);
  const cell =
    sizeBytes !== null && sizeBytes < fullBytes ? tailCellBytes(sizeBytes, redundancy, cellBytes) : cellBytes;
  return Math.max(1, cell) * (redundancy.scheme === "ec" ? redundancy.k + redundancy.m : 1);
}

/** The cells of an encoded stripe in the order of their blobs; every copy of replicated content is the same memory. */
export function cellsOf(stripe: Stripe, redundancy: Redundancy, cellBytes: number): Uint8Array[] {
  if (redundancy.scheme === "replication") {
    return Array.from({ length: redundancy.copies }, () => stripe.bytes.subarray(0, cellBytes));
  }
  return Array.from({ length: redundancy.k + redundancy.m }, (_, shard) =>
    stripe.bytes.subarray(shard * cellBytes, (shard + 1) * cellBytes),
  );
}

/**
 * Streams a body through the coder to its nodes: while one stripe fills, the one before is coded and the one before
 * that is sent. Answers the content's size once every cell has left this process's hands or is held by the writer.
 */
export async function uploadContent(sink: ContentSink, body: BodyReader, ring: StripeRing): Promise<number> {
  const { upload, redundancy, cellBytes } = sink;
  const fullBytes = cellBytes * dataShards(redundancy);
  const pipeline = new StripePipeline(sink, ring);
  let sizeBytes = 0;
  try {
    for (;;) {
      const stripe = await ring.take();
      const dataBytes = await body.fill(stripe.bytes.subarray(0, Math.min(fullBytes, stripe.bytes.length)));
      if (dataBytes === 0) {
        ring.give(stripe);
        break;
      }
      sizeBytes += dataBytes;
      pipeline.push(stripe, dataBytes, (request) => upload.absorbAndEncode(stripe, 0, dataBytes, request));
      if (body.ended) break;
    }
    return sizeBytes;
  } finally {
    await pipeline.drain();
  }
}

type Encode = (request: { stripeIndex: number; dataBytes: number; cellBytes: number }) => Promise<bigint[]>;

/** Coding in order, sending side by side. The first failure stops the ring and is what `drain` rejects with. */
export class StripePipeline {
  readonly #sink: ContentSink;
  readonly #ring: StripeRing;
  readonly #works = new Set<Promise<void>>();
  #coding: Promise<unknown> = Promise.resolve();
  #failure: { cause: unknown } | null = null;
  #stripes = 0;

  constructor(sink: ContentSink, ring: StripeRing) {
    this.#sink = sink;
    this.#ring = ring;
  }

  push(stripe: Stripe, dataBytes: number, encode: Encode): void {
    const { redundancy, cellBytes: fullCell } = this.#sink;
    const full = dataBytes === fullCell * dataShards(redundancy);
    const cellBytes = full ? fullCell : tailCellBytes(dataBytes, redundancy, fullCell);
    const stripeIndex = this.#stripes;
    this.#stripes += 1;
    const coded = this.#coding.then(() => encode({ stripeIndex, dataBytes, cellBytes }));
    this.#coding = coded;
    const work = coded.then(async (checksums) => {
      const cells = cellsOf(stripe, redundancy, cellBytes);
      if (stripeIndex === 0 && cellBytes <= LIMITS.packedBlobBytesMax) {
        this.#sink.writer.holdPacked(cells, checksums);
        return;
      }
      const { memoryFree } = await this.#sink.writer.writeStripe(stripeIndex, cells, checksums);
      if (memoryFree === null) this.#ring.give(stripe);
      else this.#ring.park(stripe, memoryFree);
    });
    const tracked = work
      .catch((cause: unknown) => {
        this.#failure ??= { cause };
        this.#ring.fail(cause);
      })
      .finally(() => this.#works.delete(tracked));
    this.#works.add(tracked);
  }

  /** Waits until no stripe is used by the coder or a node that keeps up. @throws the first failure */
  async drain(): Promise<void> {
    await Promise.all(this.#works);
    if (this.#failure !== null) throw this.#failure.cause;
  }
}

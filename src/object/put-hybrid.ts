import type { Stripe, UploadDigests } from "../coding/coder.ts";
import { dataShards, fullCellBytes } from "../domain/geometry.ts";
import type { BlobSet, Manifest } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import { LIMITS } from "../limits.ts";
import { assert } from "../lib/assert.ts";
import type { SplitOptions } from "../placement/json-split.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import type { BodyReader } from "./body-reader.ts";
import { readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { draftHotPart, hybridEtag } from "./hot-part.ts";
import type { IncomingPut } from "./incoming-put.ts";
import { openBlobSet, redundancyOf, requireDigests } from "./incoming-put.ts";
import { finishSmallCopies } from "./put-coded.ts";
import { StripeRing } from "./stripe-ring.ts";
import type { ContentSink } from "./upload-content.ts";
import { STRIPES_PER_TRANSFER, StripePipeline, stripeMemoryBytes } from "./upload-content.ts";
import type { Content, Write, WriteOutcome } from "./write.ts";
import { finishWrite } from "./write.ts";

type Split = NonNullable<UploadDigests["split"]>;

/**
 * Splits a JSON document by field on the way in. The cold bytes of a document of moderate size are held back until
 * their digest is known: when they are the ones already stored, only the record is written and no node hears of it.
 */
export async function putHybrid(deps: ObjectDeps, put: IncomingPut, mode: SplitOptions["mode"]): Promise<WriteOutcome> {
  const redundancy = redundancyOf(put.settings, "field_hybrid");
  const cellBytes = fullCellBytes(redundancy);
  const writer = openBlobSet(deps, put, "cold", redundancy);
  const stripeBytes = stripeMemoryBytes(redundancy, cellBytes, put.body.declaredBytes);
  const ring = await StripeRing.open(deps, stripeBytes, STRIPES_PER_TRANSFER);
  try {
    const upload = await deps.coder.openUpload({
      txid: put.write.txid,
      part: "cold",
      redundancy,
      split: { hotFields: put.settings.hotFields, mode },
      md5: put.request.expectedMd5 !== null,
    });
    try {
      return await storeSplit(deps, put, { upload, writer, redundancy, cellBytes }, ring);
    } finally {
      void upload.close();
    }
  } catch (cause) {
    await writer.abort();
    throw cause;
  } finally {
    void writer.idle().then(() => ring.close());
  }
}

async function storeSplit(
  deps: ObjectDeps,
  put: IncomingPut,
  sink: ContentSink,
  ring: StripeRing,
): Promise<WriteOutcome> {
  const automatic = (put.request.strategy ?? put.settings.strategy) === "auto";
  const copyBytesMax = automatic ? Math.min(put.settings.replicationBytesMax, LIMITS.packedBlobBytesMax) : 0;
  const holdBytesMax = isHybrid(put.seen) ? LIMITS.coldDeferredBytesMax : copyBytesMax;
  const cold = new ColdUpload(sink, ring, holdBytesMax);
  const sizeBytes = await cold.splitBody(put.body);
  const digests = await sink.upload.finish();
  requireDigests(put.request, digests);
  assert(digests.split !== null, "a splitting upload reports its split");
  const whole = { sizeBytes, sha256: digests.sha256, split: digests.split };

  if (digests.split.hot.length === 0 && sizeBytes <= copyBytesMax && cold.nothingSent) {
    const copies = openBlobSet(deps, put, "body", redundancyOf(put.settings, "replication"));
    return await finishSmallCopies(deps, put, copies, cold.takeHeld(), digests.sha256);
  }
  let seen = put.seen;
  while (cold.nothingSent && isHybrid(seen) && sharesCold(seen, digests.split, cold.coldBytes)) {
    // Each attempt is a write of its own: the clean-up of one must not meet hot blobs of the next.
    const write: Write = { ...put.write, txid: deps.nextTxid(), onConflict: "exact" };
    const content = await sharedContent(deps, { ...put, write }, whole, seen);
    const outcome = await finishWrite(deps, write, seen, content);
    if (outcome.ok) deps.metrics.hotUpdates.inc();
    if (outcome.ok || put.write.onConflict === "exact") return outcome;
    seen = outcome.current;
    requireConditions(put.request.preconditions, seen);
  }

  await cold.sendAll();
  deps.faults.reach("put.encoded");
  return await finishWrite(deps, put.write, seen, await splitContent(deps, put, whole, sink.writer, cold.coldBytes));
}

/** The cold stripes of one document: held back at first, then streamed. */
class ColdUpload {
  readonly #sink: ContentSink;
  readonly #ring: StripeRing;
  readonly #pipeline: StripePipeline;
  readonly #holdBytesMax: number;
  readonly #held: { stripe: Stripe; coldBytes: number }[] = [];
  #sent = false;
  coldBytes = 0;

  constructor(sink: ContentSink, ring: StripeRing, holdBytesMax: number) {
    this.#sink = sink;
    this.#ring = ring;
    this.#holdBytesMax = holdBytesMax;
    this.#pipeline = new StripePipeline(sink, ring);
  }

  get nothingSent(): boolean {
    return !this.#sent;
  }

  /** Reads the whole body; answers its size. */
  async splitBody(body: BodyReader): Promise<number> {
    const { upload, redundancy, cellBytes } = this.#sink;
    const fullBytes = cellBytes * dataShards(redundancy);
    let sizeBytes = 0;
    try {
      while (!body.ended) {
        const stripe = await this.#takeStripe();
        let end = 0;
        while (end < fullBytes && !body.ended) {
          const read = await body.fill(stripe.bytes.subarray(end, Math.min(fullBytes, stripe.bytes.length)));
          sizeBytes += read;
          if (read > 0) end = await upload.absorb(stripe, end, end + read);
        }
        this.#hold(stripe, end);
      }
      return sizeBytes;
    } catch (cause) {
      await this.#pipeline.drain().catch(() => {});
      throw cause;
    }
  }

  /** A copy of all cold bytes, which are few and have not been sent; they will not be. */
  takeHeld(): Uint8Array {
    const bytes = Buffer.concat(this.#held.map(({ stripe, coldBytes }) => stripe.bytes.subarray(0, coldBytes)));
    this.#held.length = 0;
    return bytes;
  }

  async sendAll(): Promise<void> {
    this.#release();
    await this.#pipeline.drain();
  }

  /** Holding on to stripes must never be what the next one waits for. */
  async #takeStripe(): Promise<Stripe> {
    const stripe = this.#ring.tryTake();
    if (stripe !== null) return stripe;
    this.#release();
    return await this.#ring.take();
  }

  #hold(stripe: Stripe, coldBytes: number): void {
    if (coldBytes === 0) return this.#ring.give(stripe);
    this.coldBytes += coldBytes;
    this.#held.push({ stripe, coldBytes });
    if (this.#sent || this.coldBytes > this.#holdBytesMax) this.#release();
  }

  #release(): void {
    this.#sent = true;
    for (const { stripe, coldBytes } of this.#held.splice(0)) {
      this.#pipeline.push(stripe, coldBytes, (request) => this.#sink.upload.encode(stripe, request));
    }
  }
}

type HybridManifest = Extract<Manifest, { strategy: "field_hybrid" }>;
export type StoredHybrid = StoredRecord & { readonly record: { readonly manifest: HybridManifest } };

export function isHybrid(stored: StoredRecord | null): stored is StoredHybrid {
  return readable(stored)?.record.manifest.strategy === "field_hybrid";
}

function sharesCold(seen: StoredHybrid, split: Split, coldBytes: number): boolean {
  const { coldSha256, cold } = seen.record.manifest;
  return coldSha256 === split.coldSha256 && cold.sizeBytes === coldBytes;
}

type Whole = { readonly sizeBytes: number; readonly sha256: string; readonly split: Split };

/** A version that points at the cold blobs of the version seen. */
async function sharedContent(deps: ObjectDeps, put: IncomingPut, whole: Whole, seen: StoredHybrid): Promise<Content> {
  const { split, sizeBytes, sha256 } = whole;
  const hot = await draftHotPart(split.hot, () => openHotSet(deps, put));
  const { cold, coldSha256 } = seen.record.manifest;
  return {
    sizeBytes,
    sha256,
    etag: hybridEtag(coldSha256, split.layout, split.hot),
    writers: hot.writers,
    manifestOf: (durable) => ({
      strategy: "field_hybrid",
      hot: hot.partOf(durable),
      cold,
      coldSha256,
      layout: split.layout,
    }),
  };
}

/** A version with cold blobs of its own; without any hot byte it is plain erasure-coded content. */
async function splitContent(
  deps: ObjectDeps,
  put: IncomingPut,
  whole: Whole,
  writer: BlobSetWriter,
  coldBytes: number,
): Promise<Content> {
  const { split, sizeBytes, sha256 } = whole;
  const coldOf = (durable?: ReadonlyMap<BlobSetWriter, BlobSet>) =>
    durable?.get(writer) ?? writer.plannedSet(coldBytes);
  const cold = { writer, sizeBytes: coldBytes };
  if (split.hot.length === 0 && put.request.strategy !== "field_hybrid") {
    return {
      sizeBytes,
      sha256,
      etag: sha256,
      writers: [cold],
      manifestOf: (durable) => ({ strategy: "ec", body: coldOf(durable) }),
    };
  }
  const hot = await draftHotPart(split.hot, () => openHotSet(deps, put));
  const { coldSha256, layout } = split;
  return {
    sizeBytes,
    sha256,
    etag: hybridEtag(coldSha256, layout, split.hot),
    writers: [cold, ...hot.writers],
    manifestOf: (durable) => ({
      strategy: "field_hybrid",
      hot: hot.partOf(durable),
      cold: coldOf(durable),
      coldSha256,
      layout,
    }),
  };
}

function openHotSet(deps: ObjectDeps, put: IncomingPut): BlobSetWriter {
  return openBlobSet(deps, put, "hot", redundancyOf(put.settings, "replication"));
}

import { fullCellBytes } from "../domain/geometry.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { LIMITS } from "../limits.ts";
import { holdCopies } from "./blob-copies.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import type { ObjectDeps } from "./deps.ts";
import type { IncomingPut } from "./incoming-put.ts";
import { openBlobSet, redundancyOf, requireDigests } from "./incoming-put.ts";
import { digestsOf } from "./put-inline.ts";
import { StripeRing } from "./stripe-ring.ts";
import { STRIPES_PER_TRANSFER, stripeMemoryBytes, uploadContent } from "./upload-content.ts";
import type { WriteOutcome } from "./write.ts";
import { finishWrite } from "./write.ts";

/** Whole-object replication or erasure coding. */
export async function putCoded(
  deps: ObjectDeps,
  put: IncomingPut,
  strategy: "replication" | "ec",
): Promise<WriteOutcome> {
  const redundancy = redundancyOf(put.settings, strategy);
  const writer = openBlobSet(deps, put, "body", redundancy);
  const small = put.body.declaredBytes !== null && put.body.declaredBytes <= LIMITS.packedBlobBytesMax;
  if (strategy === "replication" && small) return await putSmallCopies(deps, put, writer);

  const cellBytes = fullCellBytes(redundancy);
  const stripeBytes = stripeMemoryBytes(redundancy, cellBytes, put.body.declaredBytes);
  const ring = await StripeRing.open(deps, stripeBytes, STRIPES_PER_TRANSFER);
  const { txid } = put.write;
  const md5 = put.request.expectedMd5 !== null;
  try {
    const upload = await deps.coder.openUpload({ txid, part: "body", redundancy, split: null, md5 });
    try {
      const sizeBytes = await uploadContent({ upload, writer, redundancy, cellBytes }, put.body, ring);
      deps.faults.reach("put.encoded");
      const digests = await upload.finish();
      requireDigests(put.request, digests);
      return await finishWrite(deps, put.write, put.seen, codedContent(strategy, writer, sizeBytes, digests.sha256));
    } finally {
      void upload.close();
    }
  } catch (cause) {
    await writer.abort();
    throw cause;
  } finally {
    // Nodes may still read the stripes of a small set: the answer need not wait for the slowest of them.
    void writer.idle().then(() => ring.close());
  }
}

/** Copies of a body that is in one piece already: no thread, no stripe, no copy of the bytes. */
async function putSmallCopies(deps: ObjectDeps, put: IncomingPut, writer: BlobSetWriter): Promise<WriteOutcome> {
  const { bytes } = await put.body.peek(LIMITS.packedBlobBytesMax);
  const digests = digestsOf(bytes, put.request.expectedMd5 !== null);
  requireDigests(put.request, digests);
  return await finishSmallCopies(deps, put, writer, bytes, digests.sha256);
}

/** Stores few bytes, whose digest is known, as packed copies. */
export async function finishSmallCopies(
  deps: ObjectDeps,
  put: IncomingPut,
  writer: BlobSetWriter,
  bytes: Uint8Array,
  sha256: string,
): Promise<WriteOutcome> {
  if (bytes.length > 0) holdCopies(writer, bytes);
  deps.faults.reach("put.encoded");
  return await finishWrite(deps, put.write, put.seen, codedContent("replication", writer, bytes.length, sha256));
}

function codedContent(strategy: "replication" | "ec", writer: BlobSetWriter, sizeBytes: number, sha256: string) {
  return {
    sizeBytes,
    sha256,
    etag: sha256,
    writers: [{ writer, sizeBytes }],
    manifestOf: (durable?: ReadonlyMap<BlobSetWriter, BlobSet>) => ({
      strategy,
      body: durable?.get(writer) ?? writer.plannedSet(sizeBytes),
    }),
  };
}

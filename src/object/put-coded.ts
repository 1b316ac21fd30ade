import { fullCellBytes } from "../domain/geometry.ts";
import { checksumOf, identityOf } from "../domain/checksum.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobPart } from "../domain/ids.ts";
import type { BlobSet, Redundancy } from "../domain/manifest.ts";
import { LIMITS } from "../limits.ts";
import { planTargets } from "../placement/strategies.ts";
import { BlobSetWriter } from "./blob-set-writer.ts";
import type { ObjectDeps } from "./deps.ts";
import type { Put } from "./put.ts";
import { redundancyOf, requireDigests } from "./put.ts";
import { digestsOf } from "./put-inline.ts";
import { StripeRing } from "./stripe-ring.ts";
import { STRIPES_PER_TRANSFER, stripeMemoryBytes, uploadContent } from "./upload-content.ts";
import type { WriteOutcome } from "./write.ts";
import { finishWrite } from "./write.ts";

/** Whole-object replication or erasure coding. */
export async function putCoded(deps: ObjectDeps, put: Put, strategy: "replication" | "ec"): Promise<WriteOutcome> {
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
async function putSmallCopies(deps: ObjectDeps, put: Put, writer: BlobSetWriter): Promise<WriteOutcome> {
  const { bytes } = await put.body.peek(LIMITS.packedBlobBytesMax);
  const digests = digestsOf(bytes, put.request.expectedMd5 !== null);
  requireDigests(put.request, digests);
  if (bytes.length > 0) holdCopies(writer, bytes);
  deps.faults.reach("put.encoded");
  return await finishWrite(
    deps,
    put.write,
    put.seen,
    codedContent("replication", writer, bytes.length, digests.sha256),
  );
}

/** Hands the writer one cell for all copies. */
export function holdCopies(writer: BlobSetWriter, bytes: Uint8Array): void {
  const { txid, part, redundancy } = writer.plan;
  const copies = redundancy.scheme === "replication" ? redundancy.copies : 0;
  const payloadHash = checksumOf(bytes);
  const cells = Array.from({ length: copies }, () => bytes);
  writer.holdPacked(
    cells,
    cells.map((_, index) => payloadHash ^ identityOf(blobIdOf(txid, part, index), 0)),
  );
}

export function openBlobSet(
  deps: ObjectDeps,
  put: Pick<Put, "write" | "request" | "settings">,
  part: BlobPart,
  redundancy: Redundancy,
): BlobSetWriter {
  const targets = planTargets({
    nodes: deps.membership.snapshot(),
    redundancy,
    consistency: put.request.consistency ?? put.settings.consistency,
    key: `${put.write.bucket}/${put.write.key}`,
  });
  return new BlobSetWriter(deps, {
    txid: put.write.txid,
    part,
    redundancy,
    cellBytes: fullCellBytes(redundancy),
    targets,
  });
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

import { checksumOf, identityOf } from "../domain/checksum.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";

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

/** Sends bytes that are in one piece already as whole copies, cell by cell. */
export async function streamCopies(writer: BlobSetWriter, bytes: Uint8Array): Promise<void> {
  const { txid, part, redundancy, cellBytes } = writer.plan;
  const copies = redundancy.scheme === "replication" ? redundancy.copies : 0;
  for (let stripe = 0; stripe * cellBytes < bytes.length; stripe += 1) {
    const cell = bytes.subarray(stripe * cellBytes, (stripe + 1) * cellBytes);
    const payloadHash = checksumOf(cell);
    const checksums = Array.from(
      { length: copies },
      (_, i) => payloadHash ^ identityOf(blobIdOf(txid, part, i), stripe),
    );
    await writer.writeStripe(
      stripe,
      checksums.map(() => cell),
      checksums,
    );
  }
}

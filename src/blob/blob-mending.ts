import { cellChecksum } from "../domain/checksum.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { Deadline } from "../lib/deadline.ts";
import { blobNotFound, cellRefused, nodeFull, waitTooLong } from "./blob-errors.ts";
import type { CommitBatch } from "./commit-batch.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import { packedCells, sealChecksum, volumeOfCell } from "./seal.ts";
import type { VolumeSet } from "./volume-set.ts";
import { cellKey, sealKey } from "./volume-keys.ts";

export type MendingDeps = {
  readonly node: NodeName;
  readonly volumes: VolumeSet;
  put(volume: LmdbVolume, key: Buffer, value: Uint8Array): CommitBatch;
};

/**
 * Overwrites one cell with the bytes that the seal knows by their checksum. Of a packed blob the whole value is written
 * anew, of any other the cell alone: one transaction either way, so that a crash leaves the old bytes or the new ones.
 */
export async function mendBlobCell(
  deps: MendingDeps,
  id: BlobId,
  index: number,
  payload: Uint8Array,
  deadline: Deadline,
): Promise<void> {
  const { node, volumes } = deps;
  const found = volumes.find(id);
  if (found === null) throw blobNotFound(node, id);
  const { seal } = found;
  if (index >= seal.cellCount || cellChecksum(payload, id, index) !== sealChecksum(seal, index)) {
    throw cellRefused(node, id, index);
  }
  let batch: CommitBatch;
  if (seal.packed) {
    const whole = found.volume.get(sealKey(id));
    const cell = packedCells(seal)[index];
    if (whole === null || cell?.length !== payload.length) throw cellRefused(node, id, index);
    // What is read is a view of LMDB's own memory.
    const value = Buffer.from(whole);
    value.set(payload, value.length - seal.payloadBytes + (cell.byteOffset - seal.payload.byteOffset));
    batch = putAgain(deps, found.volume, sealKey(id), value);
  } else {
    const volume = volumes.volumeOf(volumeOfCell(seal, index));
    // The volume was set aside, and the cell with it: the blob has to be made anew.
    if (volume === null) throw blobNotFound(node, id);
    batch = putAgain(deps, volume, cellKey(id, index), payload);
  }
  await batch.wait(deadline, () => waitTooLong(node, `a mended cell of blob ${id}`));
}

function putAgain(deps: MendingDeps, volume: LmdbVolume, key: Buffer, value: Uint8Array): CommitBatch {
  if (!volume.admitsAgain(value.length)) throw nodeFull(deps.node, 0, value.length);
  return deps.put(volume, key, value);
}

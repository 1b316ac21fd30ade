import type { BlobInfo, Cell } from "../domain/blob.ts";
import { cellChecksum } from "../domain/checksum.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { KIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs, withDeadline } from "../lib/deadline.ts";
import { nextTurn } from "../lib/next-turn.ts";
import { blobDamaged, blobNotFound, readGivenUp, waitTooLong } from "./blob-errors.ts";
import type { BlobDamage } from "./blob-store.ts";
import type { Seal } from "./seal.ts";
import { packedCells, sealChecksum, volumeOfCell } from "./seal.ts";
import type { FoundSeal, VolumeSet } from "./volume-set.ts";
import { cellKey } from "./volume-keys.ts";

/**
 * Reading. LMDB answers from mapped memory without a call into the kernel, so a read is synchronous; what it copies in
 * one turn is bounded, and pages that may have to come from the disk are first touched on another thread.
 *
 * Each turn looks the seal up anew: a blob that is being deleted is found whole or not at all.
 */
export type ReaderDeps = {
  readonly node: NodeName;
  readonly clock: Clock;
  readonly volumes: VolumeSet;
  /** True while a delete of this blob is under way. */
  isLeaving(id: BlobId): boolean;
};

/** Cells copied in one turn: about a millisecond of the event loop. */
const CELLS_PER_TURN = 4;
/** Below this a page fault costs less than the way to another thread and back. */
const PREFETCH_BYTES_MIN = 64 * KIB;
/** Listed blobs per turn. */
const SEALS_PER_TURN = 500;

export async function readBlobCells(
  deps: ReaderDeps,
  id: BlobId,
  window: { readonly first: number; readonly count: number },
  deadline: Deadline,
  into: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<Cell[]> {
  const assertWanted = () => {
    if (signal?.aborted === true) throw readGivenUp(deps.node, id);
  };
  assertWanted();
  const target = into === undefined ? null : { bytes: into, used: 0 };
  const { seal } = findSeal(deps, id);
  const end = Math.min(seal.cellCount, window.first + window.count);
  if (seal.packed) return copyPackedCells(seal, window.first, end, target);
  const cells: Cell[] = [];
  for (let first = window.first; first < end; first += CELLS_PER_TURN) {
    const turnEnd = Math.min(end, first + CELLS_PER_TURN);
    await prefetchCells(deps, findSeal(deps, id).seal, first, turnEnd, deadline);
    // From here to the end of the copy nothing is awaited: what was aborted before is not written to.
    assertWanted();
    cells.push(...copyStoredCells(deps, id, first, turnEnd, target));
  }
  return cells;
}

/** Compares every cell with its checksum; what is missing counts as damage too. */
export async function verifyBlob(deps: ReaderDeps, id: BlobId, deadline: Deadline): Promise<BlobDamage[]> {
  const damages: BlobDamage[] = [];
  let index = 0;
  let end = 1;
  while (index < end) {
    try {
      const { seal } = findSeal(deps, id);
      end = seal.cellCount;
      if (seal.packed) return verifyPackedCells(seal);
      if (end === 0) return [];
      await prefetchCells(deps, seal, index, index + 1, deadline);
      const [cell] = copyStoredCells(deps, id, index, index + 1, null);
      const isWhole = cell !== undefined && cellChecksum(cell.payload, id, index) === cell.checksum;
      if (!isWhole) damages.push({ id, cellIndex: index, reason: "its bytes do not match their checksum" });
    } catch (cause) {
      if (!isStoreError(cause, "blob_damaged")) throw cause;
      const cellIndex = cause.details["cellIndex"];
      damages.push({ id, cellIndex: typeof cellIndex === "number" ? cellIndex : null, reason: cause.message });
      if (typeof cellIndex !== "number") return damages;
    }
    index += 1;
  }
  return damages;
}

/**
 * Sealed blobs behind `after`. A blob whose seal is broken is left out, as if it were lost: who compares the list with
 * what should be there then has it rebuilt.
 */
export async function listBlobs(
  deps: ReaderDeps,
  after: string,
  limit: number,
  deadline: Deadline,
): Promise<BlobInfo[]> {
  const infos: BlobInfo[] = [];
  let position = after;
  for (;;) {
    const wanted = Math.min(SEALS_PER_TURN, limit - infos.length);
    if (wanted <= 0) return infos;
    if (remainingMs(deps.clock, deadline) === 0) throw waitTooLong(deps.node, "a listing");
    const ids = nextIds(deps.volumes, position, wanted);
    for (const id of ids) {
      const info = infoOf(deps, id);
      if (info !== null) infos.push(info);
    }
    const last = ids.at(-1);
    if (last === undefined || ids.length < wanted) return infos;
    position = last;
    await nextTurn();
  }
}

/** The next ids over all volumes, whose ranges may overlap. */
function nextIds(volumes: VolumeSet, after: string, limit: number): BlobId[] {
  const byRange = volumes.volumes
    .filter((volume) => volume.largestId !== null && volume.largestId > after)
    .sort((a, b) => ((a.smallestId as string) < (b.smallestId as string) ? -1 : 1));
  let ids: BlobId[] = [];
  for (const volume of byRange) {
    const last = ids[limit - 1];
    if (last !== undefined && (volume.smallestId as string) > last) break;
    const more = volume.sealedIds(after, limit);
    ids = ids.length === 0 ? more : [...new Set([...ids, ...more])].sort().slice(0, limit);
  }
  return ids;
}

function infoOf(deps: ReaderDeps, id: BlobId): BlobInfo | null {
  try {
    const found = deps.volumes.find(id);
    if (found === null) return null;
    const { cellCount, payloadBytes, sealedAtMs } = found.seal;
    return { id, cellCount, payloadBytes, sealedAtMs };
  } catch (cause) {
    if (isStoreError(cause, "blob_damaged")) return null;
    throw cause;
  }
}

function findSeal(deps: ReaderDeps, id: BlobId): FoundSeal {
  const found = deps.volumes.find(id);
  if (found === null) throw blobNotFound(deps.node, id);
  return found;
}

type Target = { readonly bytes: Uint8Array; used: number };

/** Copies `bytes` to the next free place of the target, or to memory of their own. */
function copyOut(bytes: Buffer, target: Target | null): Uint8Array {
  const copy =
    target === null ? Buffer.allocUnsafe(bytes.length) : target.bytes.subarray(target.used, target.used + bytes.length);
  copy.set(bytes);
  if (target !== null) target.used += bytes.length;
  return copy;
}

function copyPackedCells(seal: Seal, first: number, end: number, target: Target | null): Cell[] {
  const cells: Cell[] = [];
  const payloads = packedCells(seal);
  for (let index = first; index < end; index += 1) {
    cells.push({ index, payload: copyOut(payloads[index] as Buffer, target), checksum: sealChecksum(seal, index) });
  }
  return cells;
}

function verifyPackedCells(seal: Seal): BlobDamage[] {
  const damages: BlobDamage[] = [];
  for (const [index, payload] of packedCells(seal).entries()) {
    if (cellChecksum(payload, seal.id, index) === sealChecksum(seal, index)) continue;
    damages.push({ id: seal.id, cellIndex: index, reason: "its bytes do not match their checksum" });
  }
  return damages;
}

/** Copies cells that are values of their own; seal and cells come from one snapshot, as nothing is awaited between. */
function copyStoredCells(deps: ReaderDeps, id: BlobId, first: number, end: number, target: Target | null): Cell[] {
  const { seal } = findSeal(deps, id);
  // The next read overwrites the memory that the seal's views point to.
  const checksums: bigint[] = [];
  for (let index = first; index < end; index += 1) checksums.push(sealChecksum(seal, index));
  const cells: Cell[] = [];
  for (let index = first; index < end; index += 1) {
    const bytes = deps.volumes.volumeOf(volumeOfCell(seal, index))?.get(cellKey(id, index)) ?? null;
    if (bytes === null) {
      // Cells in another volume may go before this volume's snapshot learns that the seal is gone.
      if (deps.isLeaving(id)) throw blobNotFound(deps.node, id);
      throw blobDamaged(id, `cell ${index} is missing`, index);
    }
    cells.push({ index, payload: copyOut(bytes, target), checksum: checksums[index - first] as bigint });
  }
  return cells;
}

async function prefetchCells(
  deps: ReaderDeps,
  seal: Seal,
  first: number,
  end: number,
  deadline: Deadline,
): Promise<void> {
  const onExpiry = () => waitTooLong(deps.node, `a read of blob ${seal.id}`);
  if (remainingMs(deps.clock, deadline) === 0) throw onExpiry();
  if (((end - first) * seal.payloadBytes) / seal.cellCount < PREFETCH_BYTES_MIN) return;
  const keys = new Map<number, Buffer[]>();
  for (let index = first; index < end; index += 1) {
    const volume = volumeOfCell(seal, index);
    const ofVolume = keys.get(volume);
    if (ofVolume === undefined) keys.set(volume, [cellKey(seal.id, index)]);
    else ofVolume.push(cellKey(seal.id, index));
  }
  const work = [...keys].map(([volume, ofVolume]) => deps.volumes.volumeOf(volume)?.prefetch(ofVolume));
  await withDeadline(deps.clock, deadline, Promise.all(work), onExpiry);
}

import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { Deadline } from "../lib/deadline.ts";
import { waitTooLong } from "./blob-errors.ts";
import { MARKER_VALUE, REMOVALS_PER_BATCH } from "./blob-writer.ts";
import type { CommitBatch } from "./commit-batch.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import type { Seal } from "./seal.ts";
import type { VolumeSet } from "./volume-set.ts";
import { cellBounds, cellKey, markerKey, sealKey } from "./volume-keys.ts";

/**
 * Taking blobs away. The seal goes first and with it the blob, for every reader; cells that do not fit into the same
 * transaction follow under a marker, so that a crash in between leaves nothing that the next start does not find.
 */
export type RemovalDeps = { readonly node: NodeName; readonly volumes: VolumeSet };

type Removal = { readonly batches: CommitBatch[]; readonly operations: number; readonly sweeps: LmdbVolume[] };

/** Resolves with the number of blobs that were there, when all are durably gone. `onAbsent` is told of each that was not. */
export async function removeBlobs(
  deps: RemovalDeps,
  ids: readonly BlobId[],
  deadline: Deadline,
  onAbsent: (id: BlobId) => void,
): Promise<number> {
  let removed = 0;
  let operations = 0;
  let batches = new Set<CommitBatch>();
  const sweeps: { id: BlobId; volumes: LmdbVolume[] }[] = [];
  const settle = async () => {
    const waits = [...batches].map((batch) => batch.wait(deadline, () => waitTooLong(deps.node, "a delete")));
    batches = new Set();
    operations = 0;
    await Promise.all(waits);
  };
  for (const id of new Set(ids)) {
    const removal = removeSeal(deps, id);
    if (removal === null) {
      onAbsent(id);
      continue;
    }
    removed += 1;
    operations += removal.operations;
    for (const batch of removal.batches) batches.add(batch);
    if (removal.sweeps.length > 0) sweeps.push({ id, volumes: removal.sweeps });
    if (operations >= REMOVALS_PER_BATCH) await settle();
  }
  await settle();
  for (const { id, volumes } of sweeps) {
    for (const volume of volumes) await sweepCells(deps, volume, id, deadline);
  }
  return removed;
}

/** Removes cells that belong to no sealed blob; run once, before the store serves. */
export async function sweepUnsealed(deps: RemovalDeps, deadline: Deadline): Promise<number> {
  let swept = 0;
  for (const volume of deps.volumes.volumes) {
    for (const id of allMarkedIds(volume)) {
      if (livesBySealElsewhere(deps.volumes, volume, id)) continue;
      await sweepCells(deps, volume, id, deadline);
      swept += 1;
    }
  }
  return swept;
}

/** Takes the seal away in this turn, with as many cells as one transaction may hold; null when there is none. */
function removeSeal(deps: RemovalDeps, id: BlobId): Removal | null {
  const holders = deps.volumes.holdersOf(id);
  if (holders.length === 0) return null;
  const batches: CommitBatch[] = [];
  const sweeps = new Set<LmdbVolume>();
  let operations = 0;
  for (const volume of holders) {
    const seal = readableSeal(deps.volumes, volume, id);
    const cells = seal?.packed === true ? [] : volume.keys({ ...cellBounds(id), limit: REMOVALS_PER_BATCH });
    for (const key of cells) volume.remove(key);
    if (cells.length === REMOVALS_PER_BATCH) {
      volume.put(markerKey(id), MARKER_VALUE);
      sweeps.add(volume);
    }
    batches.push(volume.remove(sealKey(id)));
    volume.noteRemoved(seal?.payloadBytes ?? 0);
    operations += cells.length + 1;
    for (const other of cellVolumes(deps.volumes, seal)) if (other !== volume) sweeps.add(other);
  }
  return { batches, operations, sweeps: [...sweeps] };
}

/** Where cells of the blob may be; without a readable seal, anywhere. */
export function cellVolumes(volumes: VolumeSet, seal: Seal | null): LmdbVolume[] {
  if (seal === null) return [...volumes.volumes];
  return seal.runs.flatMap((run) => volumes.volumeOf(run.volume) ?? []);
}

export function readableSeal(volumes: VolumeSet, volume: LmdbVolume, id: BlobId): Seal | null {
  try {
    return volumes.sealIn(volume, id);
  } catch (cause) {
    if (isStoreError(cause, "blob_damaged")) return null;
    throw cause;
  }
}

/** Removes all cells of a blob from one volume and its marker with the last of them. */
export async function sweepCells(deps: RemovalDeps, volume: LmdbVolume, id: BlobId, deadline: Deadline): Promise<void> {
  volume.users += 1;
  try {
    for (let isLast = false; !isLast;) {
      const cells = volume.keys({ ...cellBounds(id), limit: REMOVALS_PER_BATCH });
      for (const key of cells) volume.remove(key);
      isLast = cells.length < REMOVALS_PER_BATCH;
      const batch = volume.remove(isLast ? markerKey(id) : cellKey(id, 0));
      await batch.wait(deadline, () => waitTooLong(deps.node, `a sweep of blob ${id}`));
    }
  } finally {
    volume.users -= 1;
  }
}

function allMarkedIds(volume: LmdbVolume): BlobId[] {
  return volume.markedIds(Number.MAX_SAFE_INTEGER);
}

/** A blob that goes on over several volumes keeps its markers in those that do not hold the seal. */
export function livesBySealElsewhere(volumes: VolumeSet, volume: LmdbVolume, id: BlobId): boolean {
  for (const holder of volumes.holdersOf(id)) {
    const seal = readableSeal(volumes, holder, id);
    // Without a readable seal nothing is known, and nothing is deleted for lack of evidence.
    if (seal === null || seal.runs.some((run) => run.volume === volume.number)) return true;
  }
  return false;
}

/** Reads all that a node holds, offline, and changes nothing. */
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import { nextTurn } from "../lib/next-turn.ts";
import type { BlobDamage } from "./blob-store.ts";
import { verifyBlob } from "./blob-reader.ts";
import { livesBySealElsewhere } from "./blob-removal.ts";
import type { LmdbVolume } from "./lmdb-volume.ts";
import type { UnsoundVolume } from "./volume-set.ts";
import { VolumeSet } from "./volume-set.ts";

export type NodeCheck = {
  readonly node: NodeName;
  readonly volumes: number;
  readonly blobs: number;
  readonly payloadBytes: number;
  /** Begun and never sealed. */
  readonly unsealed: number;
  readonly quarantined: number;
  readonly unsound: readonly UnsoundVolume[];
  readonly damagedBlobs: number;
  /** The first of them. */
  readonly damages: readonly BlobDamage[];
};

export type CheckOptions = {
  readonly node: NodeName;
  /** As the node opens it. The caller holds the lock of the data folder. */
  readonly dir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of the blobs read so far. */
  readonly onProgress: (blobs: number) => void;
};

const IDS_PER_PAGE = 1_000;
const DAMAGES_MAX = 1_000;
const READ_MS_MAX = 600_000;

export async function checkVolumes({ node, dir, clock, logger, onProgress }: CheckOptions): Promise<NodeCheck> {
  const hooks = { clock, commitStallMsMax: READ_MS_MAX, onDurable() {}, onFailure() {} };
  const volumes = new VolumeSet(dir, { hooks, logger, volumeBytesMax: 0 });
  try {
    const unsound = await volumes.openToRead();
    const damages: BlobDamage[] = [];
    let blobs = 0;
    let damagedBlobs = 0;
    for (const id of allIds(volumes)) {
      const reader = { node, clock, volumes, isLeaving: () => false };
      const found = await verifyBlob(reader, id, deadlineIn(clock, READ_MS_MAX));
      blobs += 1;
      if (found.length > 0) damagedBlobs += 1;
      damages.push(...found.slice(0, DAMAGES_MAX - damages.length));
      onProgress(blobs);
      if (blobs % IDS_PER_PAGE === 0) await nextTurn();
    }
    return {
      ...{ node, volumes: volumes.volumes.length, blobs, unsealed: countUnsealed(volumes) },
      payloadBytes: volumes.volumes.reduce((sum, { liveBytes }) => sum + liveBytes, 0),
      quarantined: volumes.quarantinedCount,
      ...{ unsound, damagedBlobs, damages },
    };
  } finally {
    await volumes.close();
  }
}

/** One that was on its way from one volume to another is counted where it is read. */
function* allIds(volumes: VolumeSet): Generator<BlobId> {
  for (const volume of volumes.volumes) {
    for (let after = ""; ;) {
      const page = volume.sealedIds(after, IDS_PER_PAGE);
      for (const id of page) if (isReadFrom(volumes, volume, id)) yield id;
      after = page.at(-1) ?? after;
      if (page.length < IDS_PER_PAGE) break;
    }
  }
}

function isReadFrom(volumes: VolumeSet, volume: LmdbVolume, id: BlobId): boolean {
  return volumes.holdersOf(id)[0] === volume;
}

function countUnsealed(volumes: VolumeSet): number {
  return volumes.volumes.reduce((sum, volume) => {
    const marked = volume.markedIds(Number.MAX_SAFE_INTEGER);
    return sum + marked.filter((id) => !livesBySealElsewhere(volumes, volume, id)).length;
  }, 0);
}

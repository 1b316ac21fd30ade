/** A node gives back to its file system what deleted blobs have left empty, volume by volume. */
import type { VolumeCompaction } from "../blob/volume-compaction.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import { MIB } from "../lib/bytes.ts";
import type { Logger } from "../lib/logger.ts";
import type { Throttle } from "../lib/throttle.ts";

export type CompactDeps = {
  readonly compaction: VolumeCompaction;
  readonly logger: Logger;
  readonly throttle: Throttle;
  /** Volumes of whose file a smaller share than this is in use are emptied. */
  readonly below: number;
  readonly waitMs: number;
};

export type Compact = BackgroundWork & { figures(): Readonly<Record<string, number>> };

/** Nobody need wait for space that is not used. */
const LOOK_MS = 60_000;
const UNUSED_BYTES_MIN = 4 * MIB;

export function createCompact({ compaction, logger, throttle, below, waitMs }: CompactDeps): Compact {
  const totals = { movedBytes: 0, volumesGivenBack: 0, givenBackBytes: 0 };
  let progress: WorkProgress | null = null;
  let done = 0;

  return {
    name: "compact",
    async step(signal): Promise<StepResult> {
      const pace = (bytes: number) => throttle.take(bytes, signal);
      const step = await compaction
        .step({ below, unusedBytesMin: UNUSED_BYTES_MIN, waitMs, signal, pace })
        .catch((cause: unknown) => {
          // Space may come with the next delete.
          if (isStoreError(cause, "node_full")) return null;
          throw cause;
        });
      if (step === null) return { state: "throttled", againInMs: LOOK_MS };
      if (step.state === "nothing_to_do") {
        progress = null;
        done = 0;
        return { state: "idle", againInMs: LOOK_MS };
      }
      if (step.state === "moved") {
        totals.movedBytes += step.movedBytes;
        done += step.blobCount;
        progress = { done, total: done + step.blobsLeft, unit: "blobs moved" };
      }
      if (step.state === "given_back") {
        totals.volumesGivenBack += 1;
        totals.givenBackBytes += step.fileBytes;
        logger.info({ volume: step.volume, fileBytes: step.fileBytes }, "Gave a volume back to the file system");
      }
      if (step.state === "kept") logger.warn({ volume: step.volume }, "A volume keeps blobs that cannot be read");
      return { state: "busy" };
    },
    progress: () => progress,
    figures: () => ({ ...totals }),
  };
}

import type { BlobStore } from "../blob/blob-store.ts";
import type { NodeName, Txid } from "../domain/ids.ts";
import { parseBlobId } from "../domain/ids.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Wal } from "../wal/wal.ts";
import type { ActiveWrites } from "./active-writes.ts";
import type { ReadPins } from "./read-pins.ts";

export type ReleaserDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wal: Wal;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly pins: ReadPins;
  readonly active: ActiveWrites;
  /** How long replaced blobs stay for readers that hold the old record but have not begun to stream. */
  readonly releaseDelayMs: number;
  readonly nodeMs: number;
};

type Job = { readonly txid: Txid; readonly blobs: readonly PlacedBlob[]; readonly timer: Timer };

/**
 * Ends writes after their commit. The intent of a write that replaced blobs stays open until those are gone, so a
 * crash in between leaves nothing that recovery would not find.
 */
export class Releaser {
  readonly #deps: ReleaserDeps;
  readonly #jobs = new Set<Job>();

  constructor(deps: ReleaserDeps) {
    this.#deps = deps;
  }

  get pending(): number {
    return this.#jobs.size;
  }

  /** Frees `blobs` a while later, then settles the intent. With no blobs it is settled at once. */
  schedule(txid: Txid, blobs: readonly PlacedBlob[]): void {
    if (blobs.length === 0) {
      void this.settle(txid);
      return;
    }
    const timer = this.#deps.clock.startTimer(this.#deps.releaseDelayMs, () => void this.#run(job));
    const job: Job = { txid, blobs, timer };
    this.#jobs.add(job);
  }

  /** Settles what is due and leaves the rest to recovery at the next start: its intents are still open. */
  async close(): Promise<void> {
    const jobs = [...this.#jobs];
    for (const job of jobs) job.timer.cancel();
    // Readers are gone by now: the doors close before the releaser does.
    await Promise.all(jobs.map((job) => this.#free(job)));
  }

  async #run(job: Job): Promise<void> {
    const names = new Set(
      job.blobs.map((blob) => {
        const parsed = parseBlobId(blob.id);
        return `${parsed?.txid}.${parsed?.part}`;
      }),
    );
    for (const name of names) await this.#deps.pins.whenFree(name);
    await this.#free(job);
  }

  async #free(job: Job): Promise<void> {
    if (!this.#jobs.delete(job)) return;
    const freed = await deleteBlobs(this.#deps, job.blobs);
    if (freed) return await this.settle(job.txid);
    this.#deps.active.end(job.txid);
    this.#deps.logger.warn({ txid: job.txid }, "replaced blobs could not be freed; recovery will try again");
  }

  /** Closes the intent; the write is no longer under way. */
  async settle(txid: Txid): Promise<void> {
    try {
      await this.#deps.wal.settle([txid], deadlineIn(this.#deps.clock, this.#deps.nodeMs));
    } catch (cause) {
      // Recovery finds the intent open, sees that its work is done, and settles it then.
      this.#deps.logger.warn({ txid, cause: String(cause) }, "an intent could not be settled");
    } finally {
      this.#deps.active.end(txid);
    }
  }
}

/** Deletes blobs, one request per node. False when some node could not be asked: its blobs may still be there. */
export async function deleteBlobs(
  deps: Pick<ReleaserDeps, "clock" | "nodes" | "nodeMs">,
  blobs: readonly PlacedBlob[],
): Promise<boolean> {
  const byNode = Map.groupBy(blobs, (blob) => blob.node);
  const outcomes = await Promise.allSettled(
    [...byNode].map(async ([node, placed]) => {
      // A node that is no longer configured has nothing that could be deleted here.
      await deps.nodes.get(node)?.delete(
        placed.map((blob) => blob.id),
        deadlineIn(deps.clock, deps.nodeMs),
      );
    }),
  );
  return outcomes.every((outcome) => outcome.status === "fulfilled");
}

import type { BlobStore } from "../blob/blob-store.ts";
import type { NodeName, Txid } from "../domain/ids.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Wal } from "../wal/wal.ts";
import type { ActiveWrites } from "./active-writes.ts";
import type { ReadPins, RemotePins } from "./read-pins.ts";
import { blobSetName } from "./read-pins.ts";

export type ReleaserDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wal: Wal;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly pins: ReadPins;
  readonly remotePins: RemotePins;
  readonly active: ActiveWrites;
  /** How long replaced blobs stay for readers that hold the old record but have not begun to stream. */
  readonly releaseDelayMs: number;
  readonly nodeMs: number;
};

type Job = {
  readonly txid: Txid;
  readonly blobs: readonly PlacedBlob[];
  readonly dueMs: number;
  /** Rounds in which readers of other processes were in the way. */
  readonly putBack: number;
};

/** Jobs that fall due within this time of each other are done together: one request per node for all of them. */
const ROUND_MS = 250;
/** Readers elsewhere are waited for this many times the delay; recovery has the patience for longer downloads. */
const PUT_BACK_MAX = 12;

/**
 * Ends writes after their commit. The intent of a write that replaced blobs stays open until those are gone, so a
 * crash in between leaves nothing that recovery would not find.
 */
export class Releaser {
  readonly #deps: ReleaserDeps;
  /** In the order in which they fall due. */
  #waiting: Job[] = [];
  #timer: Timer | null = null;
  #isClosed = false;
  readonly #underWay = new Set<Promise<void>>();

  constructor(deps: ReleaserDeps) {
    this.#deps = deps;
  }

  /** Writes whose replaced blobs are still there. */
  get pending(): number {
    return this.#waiting.length + this.#underWay.size;
  }

  /** Frees `blobs` a while later, then settles the intent. With no blobs it is settled at once. */
  schedule(txid: Txid, blobs: readonly PlacedBlob[]): void {
    if (blobs.length === 0) {
      void this.settle([txid]);
      return;
    }
    this.#wait(txid, blobs, 0);
  }

  #wait(txid: Txid, blobs: readonly PlacedBlob[], putBack: number): void {
    const { clock, releaseDelayMs } = this.#deps;
    this.#waiting.push({ txid, blobs, dueMs: clock.monotonicMs() + releaseDelayMs, putBack });
    this.#timer ??= clock.startTimer(releaseDelayMs, () => this.#runRound());
  }

  /** Closes the intents; the writes are no longer under way. */
  async settle(txids: readonly Txid[]): Promise<void> {
    try {
      await this.#deps.wal.settle(txids, deadlineIn(this.#deps.clock, this.#deps.nodeMs));
    } catch (cause) {
      // Recovery finds the intents open, sees that their work is done, and settles them then.
      this.#deps.logger.warn({ count: txids.length, cause: String(cause) }, "intents could not be settled");
    } finally {
      for (const txid of txids) this.#deps.active.end(txid);
    }
  }

  /**
   * Frees what waits without further delay: the doors are closed, so nobody here reads it any more. What other
   * processes read is left to recovery.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = null;
    const jobs = this.#waiting.splice(0);
    if (jobs.length > 0) this.#begin(jobs);
    await Promise.all(this.#underWay);
  }

  #runRound(): void {
    const now = this.#deps.clock.monotonicMs();
    const due = this.#waiting.filter((job) => job.dueMs <= now);
    this.#waiting = this.#waiting.slice(due.length);
    const next = this.#waiting[0];
    this.#timer =
      next === undefined
        ? null
        : this.#deps.clock.startTimer(Math.max(ROUND_MS, next.dueMs - now), () => this.#runRound());
    const pinned = due.filter((job) => this.#setsOf(job).some((name) => this.#deps.pins.isPinned(name)));
    for (const job of pinned) void this.#waitForReaders(job);
    const free = due.filter((job) => !pinned.includes(job));
    if (free.length > 0) this.#begin(free);
  }

  async #waitForReaders(job: Job): Promise<void> {
    for (const name of this.#setsOf(job)) await this.#deps.pins.whenFree(name);
    this.#begin([job]);
  }

  #begin(due: readonly Job[]): void {
    const isReadElsewhere = (job: Job) => this.#setsOf(job).some((name) => this.#deps.remotePins.isPinned(name));
    const jobs: Job[] = [];
    for (const job of due) {
      if (isReadElsewhere(job)) this.#putBack(job);
      else jobs.push(job);
    }
    if (jobs.length === 0) return;
    const work = this.#free(jobs).finally(() => this.#underWay.delete(work));
    this.#underWay.add(work);
  }

  #putBack(job: Job): void {
    if (!this.#isClosed && job.putBack < PUT_BACK_MAX) return this.#wait(job.txid, job.blobs, job.putBack + 1);
    // Its intent stays open, and says what there is to free.
    this.#deps.active.end(job.txid);
    this.#deps.logger.info({ txid: job.txid }, "left blobs that another process reads to recovery");
  }

  async #free(jobs: readonly Job[]): Promise<void> {
    const txids = jobs.map((job) => job.txid);
    const freed = await deleteBlobs(
      this.#deps,
      jobs.flatMap((job) => job.blobs),
    );
    if (freed) return await this.settle(txids);
    for (const txid of txids) this.#deps.active.end(txid);
    this.#deps.logger.warn({ count: txids.length }, "replaced blobs could not be freed; recovery will try again");
  }

  #setsOf(job: Job): string[] {
    return [...new Set(job.blobs.map((blob) => blobSetName(blob.id)))];
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

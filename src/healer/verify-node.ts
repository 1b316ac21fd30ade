import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import type { BlobInfo } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import type { Work } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Throttle } from "../lib/throttle.ts";
import type { WorkQueue } from "../work/work-queue.ts";

export type VerifyDeps = {
  readonly clock: Clock;
  readonly queue: Pick<WorkQueue, "add">;
  /** Of bytes that the node reads of itself for this. */
  readonly throttle: Throttle;
  /** One wait on the node or the queue. */
  readonly waitMs: number;
  readonly blobsPerPage?: number;
};

/** How far a verification has come: enough to go on from there. */
export type VerifyPosition = {
  /** Id of the last blob of what is verified, "" before the first. */
  readonly after: string;
  readonly count: number;
  readonly bad: number;
  readonly bytes: number;
};

export type VerifyStatus = VerifyPosition & {
  /** A little off where blobs come and go meanwhile. */
  readonly total: number;
  readonly isDone: boolean;
};

const BLOBS_PER_PAGE = 64;
const NOTHING_VERIFIED: VerifyPosition = { after: "", count: 0, bad: 0, bytes: 0 };
const BLOBS_AT_ONCE = 4;

/**
 * Has a node verify everything that it holds, page by page, and queues the mending of what is bad. The node reads itself:
 * only the outcome travels.
 */
export class NodeVerification implements BackgroundWork {
  readonly name = "verify";
  readonly #deps: VerifyDeps;
  readonly #store: BlobStore;
  readonly #pageLimit: number;
  #status: VerifyStatus;

  constructor(deps: VerifyDeps, store: BlobStore, from: VerifyPosition = NOTHING_VERIFIED) {
    this.#deps = deps;
    this.#store = store;
    this.#pageLimit = deps.blobsPerPage ?? BLOBS_PER_PAGE;
    this.#status = { ...from, total: from.count, isDone: false };
  }

  status(): VerifyStatus {
    return this.#status;
  }

  progress(): WorkProgress {
    return { done: this.#status.count, total: this.#status.total, unit: "blobs" };
  }

  /** One page. @throws {StoreError} of the node or the queue: the page is then verified again */
  async step(signal: AbortSignal): Promise<StepResult> {
    if (this.#status.isDone) return { state: "idle", againInMs: Number.POSITIVE_INFINITY };
    const { blobCount } = await this.#store.usage();
    this.#status = { ...this.#status, total: Math.max(this.#status.total, blobCount) };
    const page = await this.#store.list(this.#status.after, this.#pageLimit, this.#soon());
    const blobs = page.values();
    const bad: boolean[] = [];
    // All draw from the one iterator.
    const work = async () => {
      for (const blob of blobs) if (!signal.aborted) bad.push(await this.#isBad(blob, signal));
    };
    await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work));
    if (signal.aborted) return { state: "busy" };
    const count = this.#status.count + page.length;
    const isDone = page.length < this.#pageLimit;
    this.#status = {
      after: page.at(-1)?.id ?? this.#status.after,
      ...{ count, isDone },
      total: isDone ? count : Math.max(count, blobCount),
      bad: this.#status.bad + bad.filter(Boolean).length,
      bytes: page.reduce((sum, { payloadBytes }) => sum + payloadBytes, this.#status.bytes),
    };
    return { state: "busy" };
  }

  async #isBad({ id, payloadBytes }: BlobInfo, signal: AbortSignal): Promise<boolean> {
    await this.#deps.throttle.take(payloadBytes, signal);
    if (signal.aborted) return false;
    try {
      if ((await this.#store.verify(id, this.#soon())).length === 0) return false;
    } catch (cause) {
      // Deleted since it was listed.
      if (isStoreError(cause, "blob_not_found")) return false;
      if (!isStoreError(cause, "blob_damaged")) throw cause;
    }
    await this.#deps.queue.add(await this.#mending({ id, node: this.#store.node }), this.#soon());
    return true;
  }

  async #mending(blob: PlacedBlob): Promise<Work> {
    const described = await this.#store.describe(blob.id, this.#soon()).catch((cause: unknown) => {
      if (isStoreError(cause, "blob_damaged")) return null;
      throw cause;
    });
    if (described === null) return { kind: "identify", urgency: 1, blob };
    const { bucket, key } = decodeDescriptor(described.descriptor).record;
    return { kind: "mend", urgency: 1, reason: "damaged", suspects: [blob], bucket, key };
  }

  #soon() {
    return deadlineIn(this.#deps.clock, this.#deps.waitMs);
  }
}

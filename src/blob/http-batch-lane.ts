import type { StoreError } from "../domain/errors.ts";
import { assert } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { remainingMs, type Deadline } from "../lib/deadline.ts";
import { RequestLane, type LaneEntry } from "../lib/request-lane.ts";
import { nodeUnreachable, outcomeUnknown } from "./http-blob-errors.ts";
import type { NodeLink } from "./http-node-link.ts";
import type { NodeClientMetrics } from "./metrics.ts";
import { malformedMessage } from "./wire-bytes.ts";
import {
  batchItemBytes,
  decodeBatchResults,
  encodeBatch,
  type BatchItem,
  type BatchOperation,
  type BatchResult,
} from "./wire-batch.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";
import { WIRE_PATHS } from "./wire-messages.ts";

export type BatchLaneOptions = {
  readonly link: NodeLink;
  readonly metrics: NodeClientMetrics;
  /** True when an item without an answer may have been done, and that matters. */
  readonly mutates: boolean;
};

/** Two, so that one batch can be on its way while the disk flushes the other. What was measured of one, two and four was too noisy to say more. */
const IN_FLIGHT_MAX = 2;
const SLOW_MS = 200;
const REQUESTS_MAX = 16;
/** Callers that wait; their memory is theirs and bounded there. */
const WAITING_MAX = 16_384;

/** Operations on their way to one node, together with whatever else waits for it. Each is answered by itself. */
export class BatchLane {
  readonly #link: NodeLink;
  readonly #metrics: NodeClientMetrics;
  readonly #mutates: boolean;
  readonly #lane: RequestLane<PendingItem>;

  constructor(options: BatchLaneOptions) {
    this.#link = options.link;
    this.#metrics = options.metrics;
    this.#mutates = options.mutates;
    const settings = {
      inFlightMax: IN_FLIGHT_MAX,
      slowMs: SLOW_MS,
      requestsMax: REQUESTS_MAX,
      itemsMax: WIRE_LIMITS.batchItemsMax,
      bytesTarget: WIRE_LIMITS.batchBytesTarget,
    };
    this.#lane = new RequestLane(options.link.clock, settings, (items) => this.#send(items));
  }

  /**
   * The memory of `operation` is its caller's again when this settles, either way.
   * @throws {StoreError} what the node answered, `node_unavailable`, `deadline_exceeded`
   */
  submit(
    operation: BatchOperation,
    action: string,
    deadline: Deadline,
    signal?: AbortSignal,
  ): Promise<Exclude<BatchResult, { outcome: "error" }>> {
    return new Promise((resolve, reject) => {
      const { clock, node } = this.#link;
      if (this.#lane.length >= WAITING_MAX) {
        return reject(nodeUnreachable(node, action, `${WAITING_MAX} operations wait for it already`));
      }
      let entry: LaneEntry<PendingItem> | null = null;
      const item = new PendingItem(operation, deadline, action, {
        settle: (result) => (result.outcome === "error" ? reject(result.error) : resolve(result)),
        fail: reject,
      });
      const giveUp = (reason: string) => {
        const isSent = entry !== null && !this.#lane.withdraw(entry);
        if (isSent && signal?.aborted !== true) this.#link.noteFailure();
        item.fail(outcomeUnknown(node, action, reason));
      };
      item.timer = clock.startTimer(remainingMs(clock, deadline), () => giveUp("no answer before the deadline"));
      if (signal !== undefined) {
        const onAbort = () => giveUp("its caller gave it up");
        if (signal.aborted) return onAbort();
        signal.addEventListener("abort", onAbort, { once: true });
        item.onSettled = () => signal.removeEventListener("abort", onAbort);
      }
      entry = this.#lane.add(item, batchItemBytes(operation));
    });
  }

  async #send(pending: readonly PendingItem[]): Promise<void> {
    const { clock } = this.#link;
    const items = pending.filter((item) => !item.isSettled);
    if (items.length === 0) return;
    this.#metrics.observeBatch(this.#link.node, items.length);
    const payload = encodeBatch(items.map((item) => item.toSend(Math.ceil(remainingMs(clock, item.deadline)))));
    try {
      await this.#link.call({
        action: items[0]?.action ?? "",
        target: WIRE_PATHS.batch,
        payload,
        deadline: { atMs: items.reduce((latest, item) => Math.max(latest, item.deadline.atMs), 0) },
        mutates: this.#mutates,
        place: (_kind, _meta, bytes) => Buffer.allocUnsafeSlow(bytes),
        take: ({ payload: results }) => settleItems(items, results as Buffer),
      });
      for (const item of items) {
        if (!item.isSettled) item.fail(malformedMessage("a batch was answered without all of its items"));
      }
    } catch (cause) {
      for (const item of items) item.fail(cause as StoreError);
    }
  }
}

function settleItems(items: readonly PendingItem[], results: Buffer): void {
  for (const { itemIndex, result } of decodeBatchResults(results)) {
    const item = items[itemIndex];
    if (item === undefined) throw malformedMessage("a batch is answered for an item that it does not have");
    item.settle(result);
  }
}

type Outcome = { settle(result: BatchResult): void; fail(cause: StoreError): void };

class PendingItem {
  readonly deadline: Deadline;
  readonly action: string;
  readonly #operation: BatchOperation;
  readonly #outcome: Outcome;
  timer: Timer | null = null;
  onSettled: () => void = () => {};
  isSettled = false;

  constructor(operation: BatchOperation, deadline: Deadline, action: string, outcome: Outcome) {
    this.#operation = operation;
    this.deadline = deadline;
    this.action = action;
    this.#outcome = outcome;
  }

  toSend(waitMs: number): BatchItem {
    assert(!this.isSettled, "nobody's memory is read who has his answer");
    return { ...this.#operation, waitMs: Math.min(waitMs, WIRE_LIMITS.waitMsMax) };
  }

  settle(result: BatchResult): void {
    if (this.#end()) this.#outcome.settle(result);
  }

  fail(cause: StoreError): void {
    if (this.#end()) this.#outcome.fail(cause);
  }

  #end(): boolean {
    if (this.isSettled) return false;
    this.isSettled = true;
    this.timer?.cancel();
    this.onSettled();
    return true;
  }
}

import type { BlobStore, BlobWriter } from "../blob/blob-store.ts";
import type { CellChecksum } from "../domain/blob.ts";
import type { ErrorCode } from "../domain/errors.ts";
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { BlobId, BlobPart, NodeName, Txid } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet, PlacedBlob, Redundancy } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Targets } from "../placement/strategies.ts";
import type { ObjectDeps } from "./deps.ts";

export type BlobSetPlan = {
  readonly txid: Txid;
  readonly part: BlobPart;
  readonly redundancy: Redundancy;
  readonly cellBytes: number;
  readonly targets: Targets;
};

/** After these a node may have stored what it was given: a failed flush leaves a value that survives. */
const OUTCOME_UNKNOWN: ReadonlySet<ErrorCode> = new Set(["deadline_exceeded", "storage_error", "node_fenced"]);

/** One blob on its way to one node. A lane that failed stays failed: its blob is missing and the record will say so. */
type Lane = { readonly id: BlobId; node: NodeName | null; writer: BlobWriter | null; durable: boolean };

/**
 * Sends the blobs of one set to their nodes, side by side. A blob that turns out to be small is held back and stored
 * with its descriptor in one step; larger ones stream cell by cell. Nothing is visible before `seal`.
 */
export class BlobSetWriter {
  readonly #deps: ObjectDeps;
  readonly #plan: BlobSetPlan;
  readonly #lanes: Lane[];
  readonly #spares: NodeName[];
  #packed: { cells: readonly Uint8Array[]; checksums: readonly CellChecksum[] } | null = null;
  /** Nodes that may hold a blob although they did not say so. */
  readonly #doubtful: PlacedBlob[] = [];
  #opening: Promise<void> | null = null;
  #sealing: Promise<unknown> = Promise.resolve();
  #payloadBytes = 0;
  #kept = false;

  constructor(deps: ObjectDeps, plan: BlobSetPlan) {
    this.#deps = deps;
    this.#plan = plan;
    this.#spares = [...plan.targets.spares];
    this.#lanes = plan.targets.targets.map((node, index) => ({
      id: blobIdOf(plan.txid, plan.part, index),
      node,
      writer: null,
      durable: false,
    }));
  }

  /** Payload bytes handed to nodes so far. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  get plan(): BlobSetPlan {
    return this.#plan;
  }

  /** The set as planned: what the descriptor and the intent name. */
  plannedSet(sizeBytes: number): BlobSet {
    return this.#setOf(sizeBytes, (lane) => lane.node);
  }

  /** The set as far as it is durable: what the record names. */
  blobSet(sizeBytes: number): BlobSet {
    return this.#setOf(sizeBytes, (lane) => (lane.durable ? lane.node : null));
  }

  /**
   * Holds the only stripe of a small set back until `seal`, which stores each cell together with its descriptor. The
   * cells' memory is the nodes' until `idle`.
   */
  holdPacked(cells: readonly Uint8Array[], checksums: readonly CellChecksum[]): void {
    assert(this.#opening === null, "a set is packed or streamed");
    this.#packed = { cells, checksums };
  }

  /**
   * Sends one stripe: `cells[i]` to the i-th node. Resolves when the cells' memory may be used again.
   * @throws {StoreError} `quorum_unavailable` when too many nodes have failed
   */
  async writeStripe(index: number, cells: readonly Uint8Array[], checksums: readonly CellChecksum[]): Promise<void> {
    assert(this.#packed === null, "a set is packed or streamed");
    this.#opening ??= this.#openWriters();
    await this.#opening;
    await Promise.all(
      this.#lanes.map((lane, shard) =>
        this.#attempt(lane, async (writer) => {
          const cell = cells[shard] as Uint8Array;
          await writer.writeCell(index, cell, checksums[shard] as CellChecksum);
          this.#payloadBytes += cell.length;
          this.#deps.faults.reach("put.cell-sent");
        }),
      ),
    );
    this.#requireQuorum(this.#lanes.filter((lane) => lane.writer !== null).length);
  }

  /**
   * Makes the blobs durable. Resolves when all are, or when the quorum is and the others have had their time.
   * @throws {StoreError} `quorum_unavailable`
   */
  async seal(descriptor: Uint8Array): Promise<void> {
    const outcomes = this.#lanes.map((lane, shard) => this.#sealLane(lane, shard, descriptor));
    this.#sealing = Promise.allSettled(outcomes);
    await this.#awaitQuorum(outcomes);
    this.#requireQuorum(this.#lanes.filter((lane) => lane.durable).length);
  }

  /** A record names the blobs, or may: from here on `abort` removes nothing. */
  keep(): void {
    this.#kept = true;
  }

  /** Removes whatever was written. Resolves to true when nothing can be left on any node. */
  async abort(): Promise<boolean> {
    if (this.#kept) return false;
    await this.#opening?.catch(() => {});
    await this.#sealing;
    return await this.#remove(this.#lanes);
  }

  /** Resolves when no node uses the memory of any cell any more. */
  async idle(): Promise<void> {
    await this.#sealing;
  }

  /**
   * After the commit: waits for blobs that missed it and removes them, as the record does not name them. Resolves to
   * true when none is left.
   */
  async removeLate(committed: BlobSet): Promise<boolean> {
    await this.#sealing;
    return await this.#remove(this.#lanes.filter((lane, shard) => lane.durable && committed.nodes[shard] === null));
  }

  #setOf(sizeBytes: number, nodeOf: (lane: Lane) => NodeName | null): BlobSet {
    const { txid, part, redundancy, cellBytes } = this.#plan;
    return { txid, part, sizeBytes, cellBytes, redundancy, nodes: this.#lanes.map(nodeOf) };
  }

  async #openWriters(): Promise<void> {
    await Promise.all(
      this.#lanes.map(async (lane) => {
        while (lane.node !== null && lane.writer === null) {
          try {
            lane.writer = await this.#store(lane.node).openWriter(lane.id, this.#deps.timeouts.nodeMs);
          } catch (cause) {
            this.#noteFailure(lane, cause);
            lane.node = this.#spares.shift() ?? null;
          }
        }
      }),
    );
  }

  async #sealLane(lane: Lane, shard: number, descriptor: Uint8Array): Promise<void> {
    if (this.#opening !== null) {
      await this.#attempt(lane, async (writer) => {
        await writer.seal(descriptor);
        lane.durable = true;
      });
      return;
    }
    const { cells, checksums } = this.#packed ?? { cells: [], checksums: [] };
    await this.#putPacked(lane, shard, descriptor, cells, checksums);
  }

  async #putPacked(
    lane: Lane,
    shard: number,
    descriptor: Uint8Array,
    cells: readonly Uint8Array[],
    checksums: readonly CellChecksum[],
  ): Promise<void> {
    const payload = cells[shard];
    const blob = {
      id: lane.id,
      descriptor,
      cells: payload === undefined ? [] : [{ payload, checksum: checksums[shard] as CellChecksum }],
    };
    while (lane.node !== null && !lane.durable) {
      try {
        await this.#store(lane.node).put(blob, deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs));
        lane.durable = true;
        this.#payloadBytes += payload?.length ?? 0;
        this.#deps.faults.reach("put.cell-sent");
      } catch (cause) {
        this.#noteFailure(lane, cause);
        lane.node = this.#spares.shift() ?? null;
      }
    }
  }

  /** Runs one step of a streaming lane; a failure drops the lane, not the write. */
  async #attempt(lane: Lane, step: (writer: BlobWriter) => Promise<void>): Promise<void> {
    const writer = lane.writer;
    if (writer === null) return;
    try {
      await step(writer);
    } catch (cause) {
      this.#noteFailure(lane, cause);
      lane.writer = null;
      void writer.abort().catch(() => {});
    }
  }

  /** Ends the lanes' writers and deletes their blobs, and those that may be where nobody expects them. */
  async #remove(lanes: readonly Lane[]): Promise<boolean> {
    const blobs = lanes.flatMap((lane) =>
      lane.durable && lane.node !== null ? [{ id: lane.id, node: lane.node }] : [],
    );
    const outcomes = await Promise.allSettled([
      ...lanes.map((lane) => lane.writer?.abort()),
      ...[...blobs, ...this.#doubtful].map(({ id, node }) =>
        this.#store(node).delete([id], deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs)),
      ),
    ]);
    return outcomes.every((outcome) => outcome.status === "fulfilled");
  }

  #noteFailure(lane: Lane, cause: unknown): void {
    if (!isStoreError(cause) || lane.node === null) throw cause;
    this.#deps.metrics.storageErrors.inc({ node: lane.node, code: cause.code });
    this.#deps.logger.warn({ node: lane.node, blob: lane.id, code: cause.code }, "a node did not take a blob");
    if (cause.code === "node_full") this.#deps.membership.report(lane.node, "full");
    if (cause.code === "node_fenced") this.#deps.membership.report(lane.node, "fenced");
    if (OUTCOME_UNKNOWN.has(cause.code)) this.#doubtful.push({ id: lane.id, node: lane.node });
  }

  #awaitQuorum(outcomes: readonly Promise<void>[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let pending = outcomes.length;
      let timer: { cancel(): void } | null = null;
      const finish = () => {
        timer?.cancel();
        resolve();
      };
      for (const outcome of outcomes) {
        outcome.then(() => {
          pending -= 1;
          const durable = this.#lanes.filter((lane) => lane.durable).length;
          if (pending === 0) finish();
          else if (durable >= this.#plan.targets.quorum) {
            timer ??= this.#deps.clock.startTimer(this.#deps.timeouts.stragglerMs, finish);
          }
        }, reject);
      }
    });
  }

  #requireQuorum(count: number): void {
    const { quorum } = this.#plan.targets;
    if (count >= quorum) return;
    throw new StoreError(
      "quorum_unavailable",
      `Cannot store the object: ${count} of ${this.#lanes.length} nodes took their blob, ${quorum} are needed`,
      { retriable: true, details: { durable: count, quorum } },
    );
  }

  #store(node: NodeName): BlobStore {
    const store = this.#deps.nodes.get(node);
    assert(store !== undefined, "every placed node is known");
    return store;
  }
}

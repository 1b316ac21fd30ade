import type { BlobStore, BlobWriter, SealedBlob } from "../blob/blob-store.ts";
import type { CellChecksum } from "../domain/blob.ts";
import type { ErrorCode } from "../domain/errors.ts";
import { StoreError, isStoreError } from "../domain/errors.ts";
import type { BlobId, BlobPart, NodeName, Txid } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet, PlacedBlob, Redundancy } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Targets } from "../placement/strategies.ts";
import type { ObjectDeps } from "./deps.ts";
import { noteNodeFailure, noteNodeTooSlow } from "./node-failures.ts";
import { Patience } from "./patience.ts";

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
type Lane = {
  readonly shard: number;
  readonly id: BlobId;
  node: NodeName | null;
  writer: BlobWriter | null;
  durable: boolean;
};

/** Where a blob is, or may be although nobody said so. */
type Whereabouts = { readonly shard: number; readonly id: BlobId; readonly node: NodeName };

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
  readonly #doubtful: Whereabouts[] = [];
  /** What slow nodes still do with the memory of cells, although the write goes on without them. Never rejects. */
  readonly #leftBehind: Promise<void>[] = [];
  #opening: Promise<void> | null = null;
  #sealing: Promise<unknown> = Promise.resolve();
  #payloadBytes = 0;
  #kept = false;

  constructor(deps: ObjectDeps, plan: BlobSetPlan) {
    this.#deps = deps;
    this.#plan = plan;
    this.#spares = [...plan.targets.spares];
    this.#lanes = plan.targets.targets.map((node, shard) => ({
      shard,
      id: blobIdOf(plan.txid, plan.part, shard),
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
   * Sends one stripe: `cells[i]` to the i-th node. A node that is much slower than the quorum of the others drops out,
   * so that it holds up a transfer once and not at each stripe. It may go on reading its cell for a while: the answer is
   * null when the cells' memory may be used again now, else a promise of that moment.
   * @throws {StoreError} `quorum_unavailable` when too many nodes have failed
   */
  async writeStripe(
    index: number,
    cells: readonly Uint8Array[],
    checksums: readonly CellChecksum[],
  ): Promise<{ readonly memoryFree: Promise<void> | null }> {
    assert(this.#packed === null, "a set is packed or streamed");
    this.#opening ??= this.#openWriters();
    await this.#opening;
    const patience = this.#patience(1);
    const dropped: Promise<void>[] = [];
    await Promise.all(
      this.#lanes.map((lane) =>
        this.#attempt(lane, async (writer) => {
          const cell = cells[lane.shard] as Uint8Array;
          const writing = writer.writeCell(index, cell, checksums[lane.shard] as CellChecksum);
          if ((await patience.within(writing)) === null) {
            dropped.push(this.#drop(lane, writer, writing));
            return;
          }
          this.#payloadBytes += cell.length;
          this.#deps.faults.reach("put.cell-sent");
        }),
      ),
    );
    this.#requireQuorum(this.#lanes.filter((lane) => lane.writer !== null).length);
    return { memoryFree: dropped.length === 0 ? null : Promise.all(dropped).then(() => {}) };
  }

  /**
   * Makes the blobs durable. Resolves when all are, or when the quorum is and the others have had their time.
   * @throws {StoreError} `quorum_unavailable`
   */
  async seal(descriptor: Uint8Array): Promise<void> {
    // A spare needs time too: it gets the second half of what the write waits for the slow ones.
    const patience = this.#patience(0.5);
    const outcomes = this.#lanes.map((lane) => this.#sealLane(lane, descriptor, patience));
    this.#sealing = Promise.allSettled(outcomes);
    await this.#awaitQuorum(outcomes);
    this.#requireQuorum(this.#lanes.filter((lane) => lane.durable).length);
  }

  /** A copy of the content of a packed set, whose cells are at hand until `idle`; null for one that was streamed. */
  packedContent(sizeBytes: number): Uint8Array | null {
    if (this.#packed === null) return null;
    const content = new Uint8Array(sizeBytes);
    let filled = 0;
    // Copies are all the same, and parity stands behind the data.
    for (const cell of this.#packed.cells) {
      if (filled === sizeBytes) break;
      content.set(cell.subarray(0, sizeBytes - filled), filled);
      filled += Math.min(cell.length, sizeBytes - filled);
    }
    return content;
  }

  /** A record names the blobs, or may: from here on `abort` removes nothing. */
  keep(): void {
    this.#kept = true;
  }

  /** Removes whatever was written. Resolves to true when nothing can be left on any node. */
  async abort(): Promise<boolean> {
    if (this.#kept) return false;
    await this.#opening?.catch(() => {});
    await this.idle();
    return await this.#remove(() => true);
  }

  /** Resolves when no node uses the memory of any cell any more. */
  async idle(): Promise<void> {
    await this.#sealing;
    await Promise.all(this.#leftBehind);
  }

  /**
   * After the commit: waits for blobs that missed it and removes them, as the record does not name them. Resolves to
   * true when none is left.
   */
  async removeLate(committed: BlobSet): Promise<boolean> {
    await this.idle();
    return await this.#remove(({ shard, node }) => committed.nodes[shard] !== node);
  }

  /** How many blobs of the set are, or may be, on some node, now that nothing more is on its way. */
  async countPossible(): Promise<number> {
    await this.idle();
    return new Set([...this.#durable(), ...this.#doubtful].map(({ shard }) => shard)).size;
  }

  /** Every blob of the set that is, or may be, on some node. */
  async findAll(): Promise<PlacedBlob[]> {
    await this.idle();
    return [...this.#durable(), ...this.#doubtful].map(({ id, node }) => ({ id, node }));
  }

  #setOf(sizeBytes: number, nodeOf: (lane: Lane) => NodeName | null): BlobSet {
    const { txid, part, redundancy, cellBytes } = this.#plan;
    return { txid, part, sizeBytes, cellBytes, redundancy, nodes: this.#lanes.map(nodeOf) };
  }

  #patience(share: number): Patience {
    const graceMs = this.#deps.timeouts.stragglerMs * share;
    return new Patience(this.#deps.alarms, { enough: this.#plan.targets.quorum, graceMs });
  }

  async #openWriters(): Promise<void> {
    const patience = this.#patience(1);
    await Promise.all(this.#lanes.map((lane) => this.#openWriter(lane, patience)));
  }

  async #openWriter(lane: Lane, patience: Patience): Promise<void> {
    while (lane.node !== null && lane.writer === null) {
      try {
        const opening = this.#store(lane.node).openWriter(lane.id, this.#deps.timeouts.nodeMs);
        const opened = await patience.within(opening);
        if (opened !== null) {
          lane.writer = opened.value;
          return;
        }
        this.#noteSlow(lane);
        opening.then((writer) => writer.abort()).catch(() => {});
      } catch (cause) {
        this.#noteFailure(lane, cause);
      }
      lane.node = this.#spares.shift() ?? null;
    }
  }

  /** Goes on without a slow node. Resolves when it does not read the memory of its cell any more. */
  #drop(lane: Lane, writer: BlobWriter, writing: Promise<void>): Promise<void> {
    if (lane.writer === writer) {
      lane.writer = null;
      this.#noteSlow(lane);
    }
    const isOver = () => {};
    const over = Promise.race([writer.abort().then(isOver, isOver), writing.then(isOver, isOver)]);
    this.#leftBehind.push(over);
    return over;
  }

  async #sealLane(lane: Lane, descriptor: Uint8Array, patience: Patience): Promise<void> {
    if (this.#opening !== null) {
      await this.#attempt(lane, async (writer) => {
        try {
          await writer.seal(descriptor);
          lane.durable = true;
        } catch (cause) {
          this.#noteDoubt(lane, cause);
          throw cause;
        }
      });
      return;
    }
    const payload = this.#packed?.cells[lane.shard];
    const checksum = this.#packed?.checksums[lane.shard] as CellChecksum;
    const cells = payload === undefined ? [] : [{ payload, checksum }];
    await this.#putPacked(lane, { id: lane.id, descriptor, cells }, patience);
  }

  async #putPacked(lane: Lane, blob: SealedBlob, patience: Patience): Promise<void> {
    while (lane.node !== null && !lane.durable) {
      try {
        if (!(await this.#put(lane, lane.node, blob, patience))) continue;
        lane.durable = true;
        this.#payloadBytes += blob.cells[0]?.payload.length ?? 0;
        this.#deps.faults.reach("put.cell-sent");
      } catch (cause) {
        this.#noteFailure(lane, cause);
        lane.node = this.#spares.shift() ?? null;
      }
    }
  }

  /** False when a spare takes the place of a node that is too slow. */
  async #put(lane: Lane, node: NodeName, blob: SealedBlob, patience: Patience): Promise<boolean> {
    const putting = this.#store(node).put(blob, deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs));
    try {
      if ((await patience.within(putting)) !== null) return true;
      if (this.#leaveBehind(lane, putting)) return false;
      await putting;
      return true;
    } catch (cause) {
      this.#noteDoubt(lane, cause);
      throw cause;
    }
  }

  /** Hands the blob of a slow node to a spare; false when there is none. What the node was given may still arrive. */
  #leaveBehind(lane: Lane, putting: Promise<void>): boolean {
    const spare = this.#spares.shift();
    if (spare === undefined || lane.node === null) return false;
    this.#noteSlow(lane);
    this.#doubtful.push({ shard: lane.shard, id: lane.id, node: lane.node });
    this.#leftBehind.push(putting.catch(() => {}));
    lane.node = spare;
    return true;
  }

  /** Runs one step of a streaming lane; a failure drops the lane, not the write. */
  async #attempt(lane: Lane, step: (writer: BlobWriter) => Promise<void>): Promise<void> {
    const writer = lane.writer;
    if (writer === null) return;
    try {
      await step(writer);
    } catch (cause) {
      // Another step has dropped the lane before: that its writer was aborted is no news.
      if (lane.writer !== writer) return;
      this.#noteFailure(lane, cause);
      lane.writer = null;
      void writer.abort().catch(() => {});
    }
  }

  /** Ends the lanes' writers and deletes the blobs for which `isDoomed`, also those that may be where nobody expects them. */
  async #remove(isDoomed: (blob: Whereabouts) => boolean): Promise<boolean> {
    const outcomes = await Promise.allSettled([
      ...this.#lanes.map((lane) => (lane.durable ? null : lane.writer?.abort())),
      ...[...this.#durable(), ...this.#doubtful].filter(isDoomed).map(async ({ id, node }) => {
        await this.#store(node).delete([id], deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs));
      }),
    ]);
    return outcomes.every((outcome) => outcome.status === "fulfilled");
  }

  #durable(): Whereabouts[] {
    return this.#lanes.flatMap(({ shard, id, node, durable }) =>
      durable && node !== null ? [{ shard, id, node }] : [],
    );
  }

  #noteFailure(lane: Lane, cause: unknown): void {
    if (!isStoreError(cause) || lane.node === null) throw cause;
    noteNodeFailure(this.#deps, lane.node, lane.id, cause, "a node did not take a blob");
  }

  /** The node was told to keep the blob: did it, although it failed to say so? */
  #noteDoubt({ shard, id, node }: Lane, cause: unknown): void {
    if (node !== null && isStoreError(cause) && OUTCOME_UNKNOWN.has(cause.code))
      this.#doubtful.push({ shard, id, node });
  }

  #noteSlow(lane: Lane): void {
    if (lane.node !== null) noteNodeTooSlow(this.#deps, lane.node, lane.id, "a write goes on without a slow node");
  }

  #awaitQuorum(outcomes: readonly Promise<void>[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let pending = outcomes.length;
      let alarm: Timer | null = null;
      const finish = () => {
        alarm?.cancel();
        resolve();
      };
      const giveUp = () => {
        for (const lane of this.#lanes) if (this.#isLate(lane)) this.#noteSlow(lane);
        resolve();
      };
      for (const outcome of outcomes) {
        outcome.then(() => {
          pending -= 1;
          const durable = this.#lanes.filter((lane) => lane.durable).length;
          if (pending === 0) finish();
          else if (durable >= this.#plan.targets.quorum) {
            alarm ??= this.#deps.alarms.set(this.#deps.timeouts.stragglerMs, giveUp);
          }
        }, reject);
      }
    });
  }

  /** Not durable, although it had all the time: neither a spare nor a lane that was dropped long ago. */
  #isLate(lane: Lane): boolean {
    const isUnderWay =
      this.#opening === null ? lane.node === this.#plan.targets.targets[lane.shard] : lane.writer !== null;
    return isUnderWay && !lane.durable;
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
    if (store !== undefined) return store;
    throw new StoreError("node_unavailable", `Cannot reach node ${node}: it has left since it was chosen`, {
      retriable: true,
    });
  }
}

import type { Cell } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { ObjectDeps } from "./deps.ts";
import { noteNodeFailure } from "./node-failures.ts";
import type { ShardChoice } from "./shard-choice.ts";

/** Memory for one cell; `into` undefined lets the node's adapter bring its own. */
export type CellRoom = { readonly into: Uint8Array | undefined; release(): void };

export type GatheredCell = { readonly shard: number; readonly cell: Cell };

export type RaceGoal = {
  readonly set: BlobSet;
  /** Which cell of its blob each shard is asked for. */
  readonly cellIndex: number;
  readonly cellBytes: number;
  /** Shards that are enough by themselves; null where any will do. */
  readonly wanted: readonly number[] | null;
  /** How many shards of any kind are enough. */
  readonly needed: number;
  /** Room for the cell of a shard; null when there is none until the cells on their way are given up. */
  readonly roomFor: (shard: number) => CellRoom | null;
};

/**
 * Gets enough cells of one stripe, whoever gives them first. A node that fails is replaced by the next best at once, one
 * that is late by its own measure gets company: what is on its way and in time always suffices, as far as there are
 * nodes to ask. Once enough cells are at hand all others are cancelled *before* anyone looks at the memory: nothing
 * is written to it behind the reader's back.
 */
export class CellRace {
  readonly #deps: ObjectDeps;
  readonly #goal: RaceGoal;
  readonly #choice: ShardChoice;
  /** All that were asked in this race and not found wanting; few enough to look through. */
  readonly #asks: Ask[] = [];
  #isHedged = false;
  #isDegraded = false;
  #fault: { readonly cause: unknown } | null = null;
  #wake: (() => void) | null = null;

  constructor(deps: ObjectDeps, goal: RaceGoal, choice: ShardChoice) {
    this.#deps = deps;
    this.#goal = goal;
    this.#choice = choice;
  }

  /**
   * Cells, unverified: as many as are enough, or all there are. Nothing writes to their memory any more. May be called
   * again after `discard`.
   */
  async gather(): Promise<GatheredCell[]> {
    if (this.#asks.length === 0) this.#askWanted();
    this.#topUp();
    if (!this.#isOver()) await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#fault !== null) throw this.#fault.cause;
    if (this.#isHedged && this.#asks.some((ask) => ask.isPending && ask.isLate)) this.#deps.metrics.hedgesWon.inc();
    this.#giveUpPending();
    return this.#asks.flatMap(({ shard, cell }) => (cell === null ? [] : [{ shard, cell }]));
  }

  /** A cell turned out to be damaged: it does not count, and its shard is not asked again. */
  discard(shard: number): void {
    for (const ask of this.#asks) if (ask.shard === shard) ask.abandon();
    this.#noteDamage(shard);
  }

  /** Ends all reads and gives the memory back. */
  close(): void {
    this.#giveUpPending();
    for (const ask of this.#asks) ask.abandon();
  }

  /** Where the wanted cells can be had from good nodes, just they are asked for. */
  #askWanted(): void {
    const { wanted } = this.#goal;
    if (wanted === null || !wanted.every((shard) => this.#choice.isPreferred(shard))) return;
    if (wanted.length < this.#goal.needed) for (const shard of wanted) this.#ask(shard);
  }

  #topUp(): void {
    while (!this.#suffices("in_time")) {
      const isLacking = !this.#suffices("on_its_way");
      // To those that are only late, company is all that is added; giving up one for another would get nowhere.
      const isTaken = (shard: number) =>
        this.#asks.some((ask) => ask.shard === shard && (!isLacking || ask.counts("on_its_way")));
      const shard = this.#choice.next(isTaken, isLacking);
      if (shard === null) return;
      if (!isLacking) {
        this.#isHedged = true;
        this.#deps.metrics.hedgesStarted.inc();
      }
      this.#ask(shard);
    }
  }

  #suffices(cells: Countable): boolean {
    const { wanted, needed } = this.#goal;
    let count = 0;
    for (const ask of this.#asks) if (ask.counts(cells)) count += 1;
    if (count >= needed) return true;
    const isThere = (shard: number) => this.#asks.some((ask) => ask.shard === shard && ask.counts(cells));
    return count > 0 && wanted !== null && wanted.every(isThere);
  }

  #ask(shard: number): void {
    const { set, cellBytes, roomFor } = this.#goal;
    let room = roomFor(shard);
    if (room === null) {
      this.#giveUpPending();
      room = roomFor(shard);
      assert(room !== null, "without a cell on its way there is room for one");
    }
    const ask = new Ask(shard, set.nodes[shard] as NodeName, room, this.#deps.clock.monotonicMs());
    this.#asks.push(ask);
    this.#deps.latency.noteAsked(ask.node);
    const delayMs = this.#deps.latency.hedgeDelayMs(ask.node, cellBytes);
    ask.alarm = this.#deps.alarms.set(delayMs, () => {
      ask.isLate = true;
      this.#topUp();
    });
    this.#read(ask);
  }

  #read(ask: Ask): void {
    const { cellIndex } = this.#goal;
    const deadline = deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs);
    const store = this.#deps.nodes.get(ask.node);
    // A node may leave between the choice and the question; that says nothing about its blob.
    const reading =
      store === undefined
        ? Promise.resolve(null)
        : store.readCells(this.#idOf(ask.shard), cellIndex, 1, deadline, ask.room.into, ask.controller.signal);
    reading.then(
      (cells) => this.#take(ask, cells),
      (cause: unknown) => this.#fail(ask, cause),
    );
  }

  #take(ask: Ask, cells: readonly Cell[] | null): void {
    // What comes of a cell that was given up concerns nobody.
    if (!ask.isPending) return;
    const { latency, clock } = this.#deps;
    const { shard, node } = ask;
    const cell = cells?.[0];
    if (cell?.payload.length === this.#goal.cellBytes) {
      latency.noteAnswer(node, this.#goal.cellBytes, clock.monotonicMs() - ask.askedAtMs);
      ask.take(cell);
    } else {
      ask.abandon();
      if (cells === null) this.#choice.noteFailed(shard);
      else this.#noteDamage(shard);
      this.#replace();
    }
    this.#wakeIfOver();
  }

  #fail(ask: Ask, cause: unknown): void {
    if (!ask.isPending) return;
    ask.abandon();
    if (isStoreError(cause)) {
      // The node answers, and has not what it should; one that is away or slow says nothing of its blobs.
      if (cause.code === "blob_not_found" || cause.code === "blob_damaged") this.#hint(ask.shard);
      noteNodeFailure(this.#deps, ask.node, this.#idOf(ask.shard), cause, "a node did not give a cell");
      this.#choice.noteFailed(ask.shard);
      this.#replace();
    } else {
      this.#fault ??= { cause };
    }
    this.#wakeIfOver();
  }

  #replace(): void {
    this.#noteDegraded();
    this.#topUp();
  }

  #noteDamage(shard: number): void {
    const node = this.#goal.set.nodes[shard] ?? "unknown";
    this.#deps.metrics.cellsDamaged.inc({ node });
    this.#deps.logger.warn({ node, blob: this.#idOf(shard), cell: this.#goal.cellIndex }, "a cell is damaged");
    this.#hint(shard);
    this.#choice.noteFailed(shard);
    this.#noteDegraded();
  }

  /** Read repair: this read goes on with another blob, and a healer looks at this one. */
  #hint(shard: number): void {
    const node = this.#goal.set.nodes[shard] ?? null;
    if (node !== null) this.#deps.hints.noteDamaged({ id: this.#idOf(shard), node });
  }

  #noteDegraded(): void {
    if (!this.#isDegraded) this.#deps.metrics.degradedReads.inc();
    this.#isDegraded = true;
  }

  #idOf(shard: number): BlobId {
    return blobIdOf(this.#goal.set.txid, this.#goal.set.part, shard);
  }

  #isOver(): boolean {
    return this.#fault !== null || this.#suffices("arrived") || !this.#asks.some((ask) => ask.isPending);
  }

  #wakeIfOver(): void {
    if (this.#isOver()) this.#wake?.();
  }

  #giveUpPending(): void {
    for (const ask of this.#asks) {
      if (!ask.isPending) continue;
      ask.abandon();
      if (!ask.isLate) continue;
      const waitedMs = this.#deps.clock.monotonicMs() - ask.askedAtMs;
      this.#choice.noteLate(ask.shard);
      this.#deps.latency.noteGivenUp(ask.node, this.#goal.cellBytes, waitedMs);
    }
  }
}

/** Cells that are here; those and the ones on their way that are not late; those and all on their way. */
type Countable = "arrived" | "in_time" | "on_its_way";

/** One cell that was asked for. */
class Ask {
  readonly shard: number;
  readonly node: NodeName;
  readonly room: CellRoom;
  readonly askedAtMs: number;
  readonly controller = new AbortController();
  alarm: Timer | null = null;
  isLate = false;
  cell: Cell | null = null;
  #isAbandoned = false;

  constructor(shard: number, node: NodeName, room: CellRoom, askedAtMs: number) {
    this.shard = shard;
    this.node = node;
    this.room = room;
    this.askedAtMs = askedAtMs;
  }

  get isPending(): boolean {
    return this.cell === null && !this.#isAbandoned;
  }

  counts(cells: Countable): boolean {
    if (this.cell !== null) return true;
    return !this.#isAbandoned && (cells === "on_its_way" || (cells === "in_time" && !this.isLate));
  }

  take(cell: Cell): void {
    this.cell = cell;
    this.alarm?.cancel();
  }

  /** From here on nothing is written to the room, which may serve another cell. */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isAbandoned = true;
    this.alarm?.cancel();
    if (this.cell === null) this.controller.abort();
    this.cell = null;
    this.room.release();
  }
}

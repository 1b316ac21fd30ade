/**
 * Has nodes hold their share: new ones fill up, and weights that were changed come to mean something. In rounds: what each node
 * holds is measured, moves are queued until nobody is above its share, and the next round begins when all have been
 * tried. What was moved and waits to be freed counts at its new place alone. A round that finds nothing to move is the last.
 *
 * Draining comes first: what must leave a node is moved before what might.
 */
import type { BlobStore } from "../blob/blob-store.ts";
import type { BlobInfo } from "../domain/blob.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { Work } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectAddress } from "../object/requests.ts";
import type { BalanceBounds, NodeShare, Surplus } from "./balance-plan.ts";
import { chooseTaker, giversOf, noteMove, planSurplus } from "./balance-plan.ts";
import type { Drain, DrainDeps } from "./drain.ts";
import { setOn } from "./drain.ts";
import { placementKeyOf } from "./mend-plan.ts";

export type BalanceDeps = DrainDeps & {
  readonly drain: Drain;
  readonly everyMs: number;
  readonly bounds: BalanceBounds;
};

export type Balance = BackgroundWork & {
  /** Looks with the next step, whatever the schedule says. */
  runNow(): void;
  figures(): Readonly<Record<string, number>>;
};

const BLOBS_PER_STEP = 64;
const BLOBS_AT_ONCE = 8;
const LOOK_MS = 2_000;
const MOVES_WAITING_MAX = 500;
const MOVES_PER_ROUND_MAX = 2_000;

type Moved = ObjectAddress & { readonly id: BlobId; readonly node: NodeName; readonly bytes: number };

type Round = { readonly surplus: Surplus; readonly givers: NodeName[]; after: string; moves: number };

export function createBalance(deps: BalanceDeps): Balance {
  return new NodeBalance(deps);
}

class NodeBalance implements Balance {
  readonly name = "balance";
  readonly #deps: BalanceDeps;
  #round: Round | null = null;
  /** Moves that were asked for, until their old places are free. */
  #moved: Moved[] = [];
  #isWanted = false;
  /** Of the nodes there were when it was found that all hold their share, and when. */
  #settled: { readonly nodes: string; readonly atMs: number } | null = null;
  #rounds = 0;
  #movesQueued = 0;
  #bytesQueued = 0;

  constructor(deps: BalanceDeps) {
    this.#deps = deps;
  }

  runNow(): void {
    this.#isWanted = true;
  }

  progress(): WorkProgress | null {
    return this.#deps.drain.progress();
  }

  figures(): Readonly<Record<string, number>> {
    const own = { rounds: this.#rounds, balanceMoves: this.#movesQueued, balanceBytes: this.#bytesQueued };
    return { ...this.#deps.drain.figures(), ...own };
  }

  async step(signal: AbortSignal): Promise<StepResult> {
    const drained = await this.#deps.drain.step(signal);
    if (drained.state !== "idle" || signal.aborted) return drained;
    if (this.#round === null) {
      if (!this.#isDue()) return { state: "idle", againInMs: LOOK_MS };
      this.#isWanted = false;
      const nodes = this.#nodesNow();
      const surplus = planSurplus(await this.#measure(), this.#deps.bounds);
      if (surplus === null) return this.#settle(nodes);
      this.#round = { surplus, givers: giversOf(surplus), after: "", moves: 0 };
      this.#rounds += 1;
    }
    try {
      return await this.#work(this.#round, signal);
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      // A node does not answer, or the queue is full: what is measured then is measured anew.
      this.#round = null;
      this.#isWanted = true;
      return { state: "throttled", againInMs: LOOK_MS };
    }
  }

  #isDue(): boolean {
    if (this.#isWanted || this.#settled === null || this.#settled.nodes !== this.#nodesNow()) return true;
    return this.#deps.clock.monotonicMs() - this.#settled.atMs >= this.#deps.everyMs;
  }

  #settle(nodes: string): StepResult {
    this.#settled = { nodes, atMs: this.#deps.clock.monotonicMs() };
    this.#round = null;
    return { state: "idle", againInMs: LOOK_MS };
  }

  async #work(round: Round, signal: AbortSignal): Promise<StepResult> {
    const [giver] = round.givers;
    const isAsked = giver === undefined || round.moves >= MOVES_PER_ROUND_MAX;
    // Nothing can be moved any more, though not all hold their share.
    if (isAsked && round.moves === 0) return this.#settle(this.#nodesNow());
    const { byUrgency } = await this.#deps.queue.depth(metadataDeadline(this.#deps));
    if ((byUrgency[2] ?? 0) > (isAsked ? 0 : MOVES_WAITING_MAX)) return { state: "throttled", againInMs: LOOK_MS / 4 };
    if (isAsked) {
      this.#round = null;
      this.#isWanted = true;
      return { state: "busy" };
    }
    const store = this.#deps.nodes.get(giver);
    const page = store === undefined ? [] : await store.list(round.after, BLOBS_PER_STEP, this.#soon());
    if (store !== undefined) await this.#lookAtPage(round, store, page, signal);
    round.after = page.at(-1)?.id ?? "";
    if (page.length < BLOBS_PER_STEP || (round.surplus.get(giver) ?? 0) <= 0) {
      round.givers.shift();
      round.after = "";
    }
    return { state: "busy" };
  }

  async #lookAtPage(round: Round, store: BlobStore, page: readonly BlobInfo[], signal: AbortSignal): Promise<void> {
    const infos = page.values();
    // All draw from the one iterator.
    const work = async () => {
      for (const info of infos) {
        if (signal.aborted || (round.surplus.get(store.node) ?? 0) <= 0) return;
        if (info.payloadBytes > 0) await this.#queueMove(round, store, info);
      }
    };
    await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work));
  }

  async #queueMove(round: Round, store: BlobStore, { id, payloadBytes: bytes }: BlobInfo): Promise<void> {
    const { metadata, membership, queue } = this.#deps;
    const described = await store.describe(id, this.#soon());
    if (described === null) return;
    const { bucket, key } = decodeDescriptor(described.descriptor).record;
    const stored = await metadata.get(bucket, key, metadataDeadline(this.#deps));
    const set = stored === null ? null : setOn(stored.record, id, store.node);
    if (set === null) return;
    const view = {
      nodes: membership.snapshot(),
      surplus: round.surplus,
      placementKey: placementKeyOf({ bucket, key }),
    };
    const to = chooseTaker(set, store.node, bytes, view);
    if (to === null) return;
    noteMove(round.surplus, store.node, to, bytes);
    const work: Work = { kind: "move", urgency: 2, bucket, key, blob: { id, node: store.node }, to };
    await queue.add(work, metadataDeadline(this.#deps));
    this.#moved.push({ bucket, key, id, node: store.node, bytes });
    round.moves += 1;
    this.#movesQueued += 1;
    this.#bytesQueued += bytes;
  }

  /** @throws {StoreError} of a node that does not answer: without it nobody knows what a share is */
  async #measure(): Promise<NodeShare[]> {
    const { membership, nodes } = this.#deps;
    const waiting = await this.#bytesToBeFreed();
    const taking = membership.snapshot().filter(({ state }) => state === "live" || state === "full");
    return await Promise.all(
      taking.map(async (info) => {
        const held = (await nodes.get(info.name)?.usage())?.liveBytes ?? 0;
        return { ...info, bytes: Math.max(0, held - (waiting.get(info.name) ?? 0)) };
      }),
    );
  }

  /** By node. What is free already, or was not moved after all, is forgotten. */
  async #bytesToBeFreed(): Promise<Map<NodeName, number>> {
    const waiting: Moved[] = [];
    const moved = this.#moved.values();
    const work = async () => {
      for (const one of moved) if (await this.#isToBeFreed(one)) waiting.push(one);
    };
    await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work));
    this.#moved = waiting;
    const bytes = new Map<NodeName, number>();
    for (const one of waiting) bytes.set(one.node, (bytes.get(one.node) ?? 0) + one.bytes);
    return bytes;
  }

  async #isToBeFreed({ bucket, key, id, node }: Moved): Promise<boolean> {
    const stored = await this.#deps.metadata.get(bucket, key, metadataDeadline(this.#deps));
    if (stored !== null && setOn(stored.record, id, node) !== null) return false;
    const store = this.#deps.nodes.get(node);
    return store !== undefined && (await store.describe(id, this.#soon())) !== null;
  }

  #nodesNow(): string {
    const taking = this.#deps.membership.snapshot().filter(({ state }) => state === "live" || state === "full");
    return taking.map(({ name, weight }) => `${name}=${weight}`).join();
  }

  #soon() {
    return deadlineIn(this.#deps.clock, this.#deps.timeouts.nodeMs);
  }
}

import type { NodeName } from "../domain/ids.ts";
import { KIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { RecentQuantiles } from "../lib/recent-quantiles.ts";

/**
 * What this process has learnt of how fast each node gives cells: how long to wait before another one is asked too,
 * and whom to ask first. Small and large cells are learnt apart. What is old is forgotten, so that a node that was
 * avoided because it was slow is tried again.
 */
export class NodeLatency {
  readonly #clock: Clock;
  readonly #nodes = new Map<NodeName, Learnt>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A node gave a cell of `cellBytes` after `tookMs`. */
  noteAnswer(node: NodeName, cellBytes: number, tookMs: number): void {
    const learnt = this.#learntOf(node);
    this.#sizeOf(learnt, cellBytes).note(this.#clock, tookMs);
    learnt.missed = 0;
    learnt.pause = null;
  }

  /** A cell had not come after `waitedMs`, when it was not needed any more: it would have taken at least that long. */
  noteGivenUp(node: NodeName, cellBytes: number, waitedMs: number): void {
    const learnt = this.#learntOf(node);
    this.#sizeOf(learnt, cellBytes).note(this.#clock, waitedMs);
    learnt.missed += 1;
    if (learnt.missed < MISSES_UNTIL_AVOIDED) return;
    // Of many cells that one stall delays each is given up; only a trial that failed makes the pause longer.
    const { pause } = learnt;
    if (pause !== null && !pause.onTrial) return;
    const ms = pause === null ? PAUSE_MS : Math.min(PAUSE_MS_MAX, 2 * pause.ms);
    learnt.pause = { ms, endsAtMs: this.#clock.monotonicMs() + ms, onTrial: false };
  }

  /** How long to wait for a cell of this size before another node is asked beside this one. */
  hedgeDelayMs(node: NodeName, cellBytes: number): number {
    const learnt = this.#nodes.get(node);
    const usualMs = learnt === undefined ? null : this.#sizeOf(learnt, cellBytes).usualMs;
    const delayMs = usualMs ?? HEDGE_DELAY_MS_UNLEARNT;
    // A node that did not answer at all has taught long waits: trying it again must not cost one.
    const delayMsMax = (learnt?.pause ?? null) !== null ? HEDGE_DELAY_MS_UNLEARNT : HEDGE_DELAY_MS_MAX;
    return Math.min(delayMsMax, Math.max(HEDGE_DELAY_MS_MIN, delayMs));
  }

  /** Half of the cells of this size came within this time; null when too little is known, or nothing of late. */
  typicalMs(node: NodeName, cellBytes: number): number | null {
    const learnt = this.#nodes.get(node);
    return learnt === undefined ? null : this.#sizeOf(learnt, cellBytes).typicalMs;
  }

  /**
   * `avoided` while a node that failed to answer several times running is better asked last. Once its time is up it is
   * `on_trial` until somebody asks it, who finds out for all.
   */
  standingOf(node: NodeName): "usual" | "avoided" | "on_trial" {
    const pause = this.#nodes.get(node)?.pause ?? null;
    if (pause === null) return "usual";
    return this.#clock.monotonicMs() < pause.endsAtMs ? "avoided" : "on_trial";
  }

  /** A node is being asked: if it is on trial, nobody else needs to try before this is answered or given up. */
  noteAsked(node: NodeName): void {
    const pause = this.#nodes.get(node)?.pause ?? null;
    if (pause === null || this.#clock.monotonicMs() < pause.endsAtMs) return;
    pause.endsAtMs = this.#clock.monotonicMs() + pause.ms;
    pause.onTrial = true;
  }

  #learntOf(node: NodeName): Learnt {
    let learnt = this.#nodes.get(node);
    if (learnt === undefined) {
      // Nodes are few; names that come and go for ever must not fill memory.
      if (this.#nodes.size >= NODES_MAX) this.#nodes.clear();
      learnt = { small: new Series(), large: new Series(), missed: 0, pause: null };
      this.#nodes.set(node, learnt);
    }
    return learnt;
  }

  #sizeOf(learnt: Learnt, cellBytes: number): Series {
    const series = cellBytes <= SMALL_CELL_BYTES_MAX ? learnt.small : learnt.large;
    series.forgetOld(this.#clock);
    return series;
  }
}

type Learnt = {
  readonly small: Series;
  readonly large: Series;
  /** Cells given up since the last one that came. */
  missed: number;
  /** While it is asked last. */
  pause: { readonly ms: number; endsAtMs: number; onTrial: boolean } | null;
};

/** Waits for cells of one size from one node. Asked with every read, so the answers are worked out only now and then. */
class Series {
  readonly #quantiles = new RecentQuantiles(HALF_LIFE);
  #count = 0;
  #lastAtMs = -Infinity;
  #typicalMs: number | null = null;
  #usualMs: number | null = null;

  get typicalMs(): number | null {
    return this.#typicalMs;
  }

  /** Most cells came within this time. */
  get usualMs(): number | null {
    return this.#usualMs;
  }

  note(clock: Clock, ms: number): void {
    this.#quantiles.note(ms);
    this.#count += 1;
    this.#lastAtMs = clock.monotonicMs();
    if (this.#count < ANSWERS_UNTIL_LEARNT || this.#count % ANSWERS_PER_LESSON !== 0) return;
    this.#typicalMs = this.#quantiles.at(0.5);
    this.#usualMs = this.#quantiles.at(HEDGE_QUANTILE);
  }

  forgetOld(clock: Clock): void {
    if (this.#count === 0 || clock.monotonicMs() - this.#lastAtMs < FORGOTTEN_AFTER_MS) return;
    this.#quantiles.clear();
    this.#count = 0;
    this.#typicalMs = null;
    this.#usualMs = null;
  }
}

const HEDGE_QUANTILE = 0.95;
const HEDGE_DELAY_MS_MIN = 10;
const HEDGE_DELAY_MS_MAX = 1_000;
const HEDGE_DELAY_MS_UNLEARNT = 50;
const SMALL_CELL_BYTES_MAX = 64 * KIB;
const HALF_LIFE = 128;
const ANSWERS_UNTIL_LEARNT = 16;
const ANSWERS_PER_LESSON = 8;
const FORGOTTEN_AFTER_MS = 60_000;
const MISSES_UNTIL_AVOIDED = 3;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 30_000;
const NODES_MAX = 4_096;

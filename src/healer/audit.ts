/**
 * Compares all records with all that nodes hold, as a set difference in one pass over both: records are written into a
 * scratch file in the order of blob ids, which is that of the nodes' inventories. Memory stays flat, however many there are.
 *
 * What it finds are hints: neither side is seen at one moment. So it changes nothing itself. What lacks becomes work for
 * whoever looks closer; what seems to be nobody's is watched over several audits before it becomes work as well.
 */
import type { BlobStore } from "../blob/blob-store.ts";
import { isStoreError } from "../domain/errors.ts";
import { blobPayloadBytes, stripeCount } from "../domain/geometry.ts";
import type { Loss } from "../domain/healing.ts";
import type { BucketName, NodeName, ObjectKey } from "../domain/ids.ts";
import { keptSetName, needsKeeping } from "../domain/kept-record.ts";
import { blobSetsOf, blobsNeeded } from "../domain/manifest.ts";
import { isReadableNode } from "../domain/node-info.ts";
import type { ObjectRecord } from "../domain/record.ts";
import { isBuried } from "../domain/record.ts";
import type { Work } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { nextTurn } from "../lib/next-turn.ts";
import type { Logger } from "../lib/logger.ts";
import type { Membership } from "../membership/membership.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import { blobSetNameOf } from "../object/read-pins.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import { InventoryCursor } from "./audit-inventory.ts";
import type { AuditView, GroupFindings } from "./audit-plan.ts";
import { collectWorks, judgeGroup } from "./audit-plan.ts";
import { Losses } from "./losses.ts";
import type { SetEntry } from "./lmdb-audit-scratch.ts";
import { AuditScratch } from "./lmdb-audit-scratch.ts";
import { OrphanWatch } from "./orphan-watch.ts";

export type AuditScope = { readonly kind: "all" } | { readonly kind: "node"; readonly node: NodeName };

export type AuditReport = {
  readonly scope: AuditScope;
  readonly records: number;
  readonly blobs: number;
  /** What records plan and no node that was asked has, on lost nodes too: on one node, or on all (null). */
  readonly lossOf: (node: NodeName | null) => Loss;
  /** Blobs on nodes that are only away. */
  readonly awayBlobs: number;
  /** Blobs that no record names where they are; many of them are of writes under way. */
  readonly orphans: number;
  /** Pieces of work that were queued. */
  readonly queued: number;
  /** The queue was full, or a node could not be read to its end: there may be more. */
  readonly again: boolean;
  readonly elapsedMs: number;
};

export type Audit = BackgroundWork &
  AsyncDisposable & {
    /** Resolves when an audit of this scope that begins from now on has ended. Rejects when it was broken off. */
    request(scope: AuditScope): Promise<AuditReport>;
    last(): AuditReport | null;
    /** Blobs that are watched because nothing refers to them. */
    watchedOrphans(): number;
  };

export type AuditDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metadata: MetadataStore;
  readonly membership: Membership;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly queue: WorkQueue;
  /** A folder of the audit's own. */
  readonly scratchPath: string;
  readonly timeouts: { readonly metadataMs: number; readonly nodeMs: number };
  readonly orphanGraceMs: number;
  readonly undeleteMs: number;
  /** A node that nobody waits for any more. */
  isLost(node: NodeName): boolean;
};

const RECORDS_PER_STEP = 1_000;
const ENTRIES_PER_PAGE = 1_000;
/** More records than may name one set. */
const ENTRIES_AHEAD_MIN = 64;
/** Sets compared in one turn of the event loop: a few milliseconds. */
const SETS_PER_TURN = 128;
const WORKS_AHEAD_MAX = 64;
/** A step ends after so long, so that whoever stops it need not wait. */
const STEP_MS = 200;
/** How soon somebody who asks is heard. */
const IDLE_MS = 500;

export function createAudit(deps: AuditDeps): Audit {
  return new StreamingAudit(deps);
}

type Wish = {
  readonly scope: AuditScope;
  readonly resolve: (report: AuditReport) => void;
  readonly reject: (cause: unknown) => void;
};

class StreamingAudit implements Audit {
  readonly name = "audit";
  readonly #deps: AuditDeps;
  readonly #orphans: OrphanWatch;
  #wishes: Wish[] = [];
  #run: AuditRun | null = null;
  #serving: Wish[] = [];
  #last: AuditReport | null = null;

  constructor(deps: AuditDeps) {
    this.#deps = deps;
    this.#orphans = new OrphanWatch(deps.clock, deps.orphanGraceMs);
  }

  request(scope: AuditScope): Promise<AuditReport> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ scope, resolve, reject });
    });
  }

  last(): AuditReport | null {
    return this.#last;
  }

  watchedOrphans(): number {
    return this.#orphans.count;
  }

  progress(): WorkProgress | null {
    return this.#run?.progress() ?? null;
  }

  async step(signal: AbortSignal): Promise<StepResult> {
    if (this.#run === null && !this.#begin()) return { state: "idle", againInMs: IDLE_MS };
    const run = this.#run as AuditRun;
    try {
      const report = await run.step(signal);
      if (report !== null) await this.#end(report);
      return { state: "busy" };
    } catch (cause) {
      await this.#breakOff(cause);
      throw cause;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#breakOff(new Error("the audit was ended"));
    for (const { reject } of this.#wishes.splice(0)) reject(new Error("the audit was ended"));
  }

  /** Whoever wants the same is served together. */
  #begin(): boolean {
    const [first] = this.#wishes;
    if (first === undefined) return false;
    const isSame = ({ scope }: Wish) => JSON.stringify(scope) === JSON.stringify(first.scope);
    this.#serving = this.#wishes.filter(isSame);
    this.#wishes = this.#wishes.filter((wish) => !isSame(wish));
    this.#run = new AuditRun(this.#deps, first.scope, this.#orphans);
    return true;
  }

  async #end(report: AuditReport): Promise<void> {
    await this.#run?.close();
    this.#run = null;
    this.#last = report;
    const { records, blobs, orphans, queued, again, elapsedMs } = report;
    const lacking = report.lossOf(null).blobs;
    this.#deps.logger.info({ records, blobs, lacking, orphans, queued, again, elapsedMs }, "an audit has ended");
    for (const { resolve } of this.#serving.splice(0)) resolve(report);
  }

  async #breakOff(cause: unknown): Promise<void> {
    await this.#run?.close();
    this.#run = null;
    this.#orphans.dropAudit();
    for (const { reject } of this.#serving.splice(0)) reject(cause);
  }
}

/** One audit, step by step. */
class AuditRun {
  readonly #deps: AuditDeps;
  readonly #scope: AuditScope;
  readonly #orphanWatch: OrphanWatch;
  readonly #scratch: AuditScratch;
  readonly #beganMs: number;
  readonly #cursors: InventoryCursor[];
  readonly #losses = new Losses();
  #phase: "records" | "merge" = "records";
  #after: { bucket: BucketName; key: ObjectKey } | null = null;
  #page: readonly SetEntry[] = [];
  #at = 0;
  #pageCursor: Buffer | null = null;
  #isPageLast = false;
  /** Found and not queued yet. */
  #works: Work[] = [];
  #records = 0;
  #blobs = 0;
  #entries = 0;
  #entriesSeen = 0;
  #awayBlobs = 0;
  #orphans = 0;
  #queued = 0;
  #isFull = false;

  constructor(deps: AuditDeps, scope: AuditScope, orphanWatch: OrphanWatch) {
    this.#deps = deps;
    this.#scope = scope;
    this.#orphanWatch = orphanWatch;
    this.#scratch = new AuditScratch(deps.scratchPath);
    this.#beganMs = deps.clock.monotonicMs();
    this.#cursors = readableStores(deps)
      .filter(({ node }) => scope.kind === "all" || node === scope.node)
      .map((store) => new InventoryCursor(store, deps.clock, deps.timeouts.nodeMs));
  }

  progress(): WorkProgress {
    return this.#phase === "records"
      ? { done: this.#records, total: null, unit: "records" }
      : { done: this.#entriesSeen, total: this.#entries, unit: "blob sets" };
  }

  async close(): Promise<void> {
    await this.#scratch.close();
  }

  /** A piece of the work; the report when that was the last. */
  async step(signal: AbortSignal): Promise<AuditReport | null> {
    const untilMs = this.#deps.clock.monotonicMs() + STEP_MS;
    while (this.#deps.clock.monotonicMs() < untilMs && !signal.aborted) {
      await this.#flush();
      if (this.#phase === "records") await this.#readRecords();
      else if (!(await this.#mergeSets())) {
        await this.#flush();
        return this.#report();
      }
      // What is compared is at hand: without this nobody else in the process would get a turn.
      await nextTurn();
    }
    return null;
  }

  async #readRecords(): Promise<void> {
    const { metadata, clock, timeouts } = this.#deps;
    const page = await metadata.scan(this.#after, RECORDS_PER_STEP, deadlineIn(clock, timeouts.metadataMs));
    const last = page.at(-1)?.record;
    if (last === undefined) {
      this.#phase = "merge";
      return;
    }
    this.#after = { bucket: last.bucket, key: last.key };
    this.#records += page.length;
    const entries = page.flatMap(({ record }) => entriesOf(record));
    this.#entries += entries.length;
    await this.#scratch.add(entries);
    for (const { record } of page) if (this.#isDue(record)) this.#works.push(buryWork(record));
  }

  /** A deleted object that nobody can bring back any more. */
  #isDue(record: ObjectRecord): boolean {
    const { clock, undeleteMs } = this.#deps;
    if (record.state !== "tombstone" || isBuried(record)) return false;
    return clock.wallMs() - record.modifiedAtMs >= undeleteMs;
  }

  /** Judges some sets in their order; false when there are no more. */
  async #mergeSets(): Promise<boolean> {
    const view = this.#view();
    for (let count = 0; count < SETS_PER_TURN; count += 1) {
      for (const cursor of this.#cursors) {
        const filling = cursor.fill();
        if (filling !== null) await filling;
      }
      this.#fillPage();
      let name = this.#page[this.#at]?.name ?? null;
      for (const { nextSet } of this.#cursors)
        if (nextSet !== null && (name === null || nextSet < name)) name = nextSet;
      if (name === null) return false;
      const entries: SetEntry[] = [];
      for (let next = this.#page[this.#at]; next?.name === name; next = this.#page[this.#at]) {
        entries.push(next);
        this.#at += 1;
      }
      this.#entriesSeen += entries.length;
      const held = this.#cursors.flatMap((cursor) => (cursor.nextSet === name ? cursor.takeSet() : []));
      this.#blobs += held.length;
      this.#take(name, judgeGroup({ name, entries, held }, view));
      if (this.#works.length > WORKS_AHEAD_MAX) return true;
    }
    return true;
  }

  #take(name: string, { work, lacking, awayCount, orphans }: GroupFindings): void {
    this.#works.push(...work);
    for (const blob of lacking) this.#losses.add(name, blob);
    this.#awayBlobs += awayCount;
    this.#orphans += orphans.length;
    this.#works.push(...collectWorks(this.#orphanWatch.see(orphans)));
  }

  #fillPage(): void {
    if (this.#isPageLast || this.#page.length - this.#at >= ENTRIES_AHEAD_MIN) return;
    const { entries, cursor } = this.#scratch.page(this.#pageCursor, ENTRIES_PER_PAGE);
    this.#page = [...this.#page.slice(this.#at), ...entries];
    this.#at = 0;
    this.#pageCursor = cursor;
    this.#isPageLast = entries.length < ENTRIES_PER_PAGE;
  }

  #view(): AuditView {
    const cursors = new Map(this.#cursors.map((cursor) => [cursor.store.node, cursor]));
    const nodes = this.#deps.membership.snapshot();
    return {
      nodeCount: this.#scope.kind === "all" ? nodes.filter(({ state }) => isReadableNode(state)).length : 0,
      standingOf: (node) => {
        const cursor = cursors.get(node);
        if (cursor !== undefined) return cursor.isBroken ? "away" : "asked";
        if (this.#scope.kind === "node" && node !== this.#scope.node) return "unasked";
        return this.#deps.isLost(node) ? "lost" : "away";
      },
    };
  }

  /** Queues what was found; what does not fit is found again by the next audit. */
  async #flush(): Promise<void> {
    const { queue, clock, timeouts } = this.#deps;
    for (let work = this.#works[0]; work !== undefined; work = this.#works[0]) {
      try {
        await queue.add(work, deadlineIn(clock, timeouts.metadataMs));
        this.#queued += 1;
      } catch (cause) {
        if (!isStoreError(cause, "overloaded")) throw cause;
        this.#isFull = true;
      }
      this.#works.shift();
    }
  }

  #report(): AuditReport {
    const losses = this.#losses;
    const broken = this.#cursors.filter((cursor) => cursor.isBroken);
    this.#orphanWatch.endAudit(
      new Set(this.#cursors.filter((cursor) => !cursor.isBroken).map(({ store }) => store.node)),
    );
    return {
      scope: this.#scope,
      records: this.#records,
      blobs: this.#blobs,
      lossOf: (node) => losses.of(node),
      awayBlobs: this.#awayBlobs,
      orphans: this.#orphans,
      queued: this.#queued,
      again: this.#isFull || broken.length > 0,
      elapsedMs: Math.round(this.#deps.clock.monotonicMs() - this.#beganMs),
    };
  }
}

/** Nodes that can be asked now. One that membership does not know answers for itself. */
function readableStores({ membership, nodes }: AuditDeps): BlobStore[] {
  const states = new Map(membership.snapshot().map(({ name, state }) => [name, state]));
  return [...nodes.values()].filter((store) => isReadableNode(states.get(store.node) ?? store.state()));
}

/** What the audit has to know of a record. */
function entriesOf(record: ObjectRecord): SetEntry[] {
  const { bucket, key, version } = record;
  const sets = blobSetsOf(record.manifest).map((set): SetEntry => {
    const { sizeBytes, redundancy, cellBytes, nodes } = set;
    return {
      name: blobSetNameOf(set),
      ...{ bucket, key, version, nodes },
      needed: set.part === "copy" ? 0 : blobsNeeded(redundancy),
      cellCount: stripeCount(sizeBytes, redundancy, cellBytes),
      payloadBytes: blobPayloadBytes(sizeBytes, redundancy, cellBytes),
    };
  });
  if (!needsKeeping(record)) return sets;
  const kept = { name: keptSetName(version), nodes: null, needed: 1, cellCount: 0, payloadBytes: 0 };
  return [...sets, { ...kept, bucket, key, version }];
}

function buryWork({ bucket, key, version }: ObjectRecord): Work {
  return { kind: "bury", urgency: 2, bucket, key, version };
}

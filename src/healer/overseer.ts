/**
 * What the leader of healing watches over for as long as it leads: nodes that come and go, audits that are due, jobs and
 * incidents. It changes nothing but the ledger and asks others for the rest; decisions stand in `node-watch.ts`,
 * `job-plan.ts`, `incidents.ts` and `replication-lag.ts`.
 */
import { withIncident } from "../desk/healing-ledger.ts";
import type { OpenLedger } from "../desk/open-ledger.ts";
import type { Incident, JobKind, HealingJob, Loss } from "../domain/healing.ts";
import { NO_LOSS } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/logger.ts";
import type { Membership } from "../membership/membership.ts";
import type { WorkDepth } from "../work/work-queue.ts";
import type { JobFinding } from "./job-plan.ts";
import type { AuditWish, JobRunner } from "./job-runner.ts";
import { auditedIncidents } from "./incidents.ts";
import type { NodeEvent } from "./node-watch.ts";
import { sightsOf, watchNodes } from "./node-watch.ts";
import { replicationLag } from "./replication-lag.ts";

export type AuditRequest = { readonly kind: "all" } | { readonly kind: "node"; readonly node: NodeName };

/** What the leader needs to know of an audit. */
export type AuditOutcome = {
  /** What lacks on a node, or anywhere (null), and may be mended now. */
  readonly lossOf: (node: NodeName | null) => Loss;
  readonly orphans: number;
  readonly queued: number;
  /** It has not seen everything: what it did not find may lack all the same. */
  readonly again: boolean;
};

export type OverseerDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ledger: OpenLedger;
  readonly jobs: JobRunner;
  readonly nextId: () => string;
  readonly membership: Membership;
  /** One at a time. */
  readonly audit: (request: AuditRequest) => Promise<AuditOutcome>;
  readonly depth: () => Promise<WorkDepth>;
  /** Blobs that all healers together have mended so far, as far as known. */
  readonly mendedCount: () => number;
  readonly onIncidentEnded?: (incident: Incident) => void;
  readonly bounds: OverseerBounds;
};

export type OverseerBounds = {
  readonly rebuildAfterMs: number;
  readonly auditEveryMs: number;
  /** A new leader lets the dust settle before the first audit. */
  readonly firstAuditMs: number;
};

const STEP_MS = 500;
const IDLE_STEP_MS = 1_000;
/** While a node is away, how often that is written down for a successor. */
const AWAY_SAVE_MS = 10_000;
/** Between audits that only look whether what lacked is there by now. */
const LOOK_AGAIN_MS_MIN = 5_000;
const LOOK_AGAIN_MS_MAX = 10 * 60_000;
const AUDIT_RETRY_MS = 5_000;

type Pending = {
  readonly wish: AuditWish;
  /** Incidents and nodes that were known when it began: only of these it says that they are well. */
  readonly incidents: ReadonlySet<string>;
  readonly nodes: ReadonlySet<NodeName>;
  readonly mendedBefore: number;
  outcome: AuditOutcome | "failed" | null;
};

export class Overseer implements BackgroundWork {
  readonly name = "overseer";
  readonly #deps: OverseerDeps;
  readonly #noticedAtMs = new Map<string, number>();
  #pending: Pending | null = null;
  #seenAtMs: number;
  #savedAtMs: number;
  #auditDueMs: number;
  #lookAgainMs = LOOK_AGAIN_MS_MIN;
  #mendedAtAudit: number;
  #urgent = 0;

  constructor(deps: OverseerDeps) {
    const nowMs = deps.clock.monotonicMs();
    this.#deps = deps;
    this.#seenAtMs = nowMs;
    this.#savedAtMs = nowMs;
    this.#auditDueMs = nowMs + deps.bounds.firstAuditMs;
    this.#mendedAtAudit = deps.mendedCount();
  }

  progress(): WorkProgress | null {
    return null;
  }

  /** See `replicationLag`. */
  lag(): number | null {
    const { lacking, nodes } = this.#deps.ledger.current();
    return replicationLag({
      lacking: lacking === null ? null : sumOf(lacking),
      mended: Math.max(0, this.#deps.mendedCount() - this.#mendedAtAudit),
      urgent: this.#urgent,
      nodes: Object.values(nodes),
    });
  }

  async step(signal: AbortSignal): Promise<StepResult> {
    const { jobs } = this.#deps;
    await this.#watchNodes();
    await this.#takeOutcome();
    const wish = await jobs.advance(() => this.#readDepth(), signal);
    if (signal.aborted) return { state: "idle", againInMs: IDLE_STEP_MS };
    if (this.#pending === null) this.#beginAudit(wish ?? this.#dueAudit());
    const isBusy = this.#pending !== null || jobs.open().length > 0;
    return { state: "idle", againInMs: isBusy ? STEP_MS : IDLE_STEP_MS };
  }

  /** Starts a job that an operator wants, with the incident that goes with it. */
  async start(kind: JobKind, node: NodeName | null): Promise<HealingJob> {
    const before = new Set(this.#deps.jobs.open().map(({ id }) => id));
    const job = await this.#deps.jobs.start(kind, node);
    if (kind === "recover_node" && !before.has(job.id)) await this.#notice("on_demand", node);
    return job;
  }

  async #readDepth(): Promise<WorkDepth> {
    const depth = await this.#deps.depth();
    this.#urgent = (depth.byUrgency[0] ?? 0) + (depth.byUrgency[1] ?? 0);
    return depth;
  }

  async #watchNodes(): Promise<void> {
    const { clock, ledger, membership, bounds } = this.#deps;
    const nowMs = clock.monotonicMs();
    const elapsedMs = nowMs - this.#seenAtMs;
    this.#seenAtMs = nowMs;
    const before = ledger.current().nodes;
    const sights = sightsOf(membership.snapshot(), membership.processes());
    const { memories, events } = watchNodes(before, sights, elapsedMs, bounds.rebuildAfterMs);
    const isAway = Object.values(memories).some(({ awayMs }) => awayMs !== null);
    // First what is to be done, so that a crash in between does it twice rather than never.
    for (const event of events) await this.#answer(event);
    // What the nodes hold changes all the time: that alone is not written down before one of them goes.
    const isNews = events.length > 0 || wasThere(before) !== wasThere(memories);
    if (isNews || (isAway && nowMs - this.#savedAtMs >= AWAY_SAVE_MS)) {
      this.#savedAtMs = nowMs;
      await ledger.change((found) => ({ ...found, nodes: memories }));
    } else {
      ledger.note((found) => ({ ...found, nodes: memories }));
    }
  }

  async #answer({ kind, node, awayMs }: NodeEvent): Promise<void> {
    this.#deps.logger.info(
      { node, awayMs: Math.round(awayMs) },
      kind === "lost" ? "a node is given up" : "a node is back",
    );
    await this.#notice(kind === "lost" ? "node_lost" : "node_returned", node, { sinceMs: awayMs });
    await this.#deps.jobs.start("recover_node", node);
  }

  async #notice(
    kind: Incident["kind"],
    node: NodeName | null,
    { sinceMs = 0, loss = NO_LOSS }: { readonly sinceMs?: number; readonly loss?: Loss } = {},
  ): Promise<void> {
    const { clock, ledger, nextId } = this.#deps;
    const isSame = (one: Incident) => one.kind === kind && one.node === node && one.repairMs === null;
    if (ledger.current().incidents.some(isSame)) return;
    const noticedAtMs = Math.round(clock.wallMs() - sinceMs);
    const { objects, bytes } = loss;
    const incident: Incident = { id: nextId(), kind, node, noticedAtMs, repairMs: null, objects, bytes };
    this.#noticedAtMs.set(incident.id, clock.monotonicMs() - sinceMs);
    await ledger.change((found) => withIncident(found, incident));
  }

  /** Of those that no job asks for: the next of the schedule, or a look whether what lacked is there by now. */
  #dueAudit(): AuditWish | null {
    const { clock, ledger } = this.#deps;
    const everything: AuditWish = { node: null, jobs: new Set() };
    const nowMs = clock.monotonicMs();
    if (nowMs >= this.#auditDueMs) return everything;
    const { lacking } = ledger.current();
    const isLacking = lacking !== null && sumOf(lacking) > 0;
    const sinceMs = nowMs - (this.#auditDueMs - this.#deps.bounds.auditEveryMs);
    return isLacking && this.#urgent === 0 && sinceMs >= this.#lookAgainMs ? everything : null;
  }

  #beginAudit(wish: AuditWish | null): void {
    if (wish === null) return;
    const { ledger, audit, mendedCount, logger } = this.#deps;
    const { incidents, nodes } = ledger.current();
    const known = incidents.filter(({ repairMs }) => repairMs === null).map(({ id }) => id);
    const there = Object.entries(nodes).flatMap(([name, { awayMs, isLost }]) =>
      awayMs === null || isLost ? [name as NodeName] : [],
    );
    const begun = { wish, incidents: new Set(known), nodes: new Set(there), mendedBefore: mendedCount() };
    const pending: Pending = { ...begun, outcome: null };
    this.#pending = pending;
    audit(wish.node === null ? { kind: "all" } : { kind: "node", node: wish.node }).then(
      (outcome) => void (pending.outcome = outcome),
      (cause: unknown) => {
        logger.warn({ cause: String(cause) }, "an audit failed");
        pending.outcome = "failed";
      },
    );
  }

  async #takeOutcome(): Promise<void> {
    const pending = this.#pending;
    if (pending === null || pending.outcome === null) return;
    const { outcome, wish } = pending;
    this.#pending = null;
    const { clock, bounds, jobs } = this.#deps;
    const nowMs = clock.monotonicMs();
    if (outcome === "failed") {
      if (wish.node === null) this.#auditDueMs = nowMs + Math.min(AUDIT_RETRY_MS, bounds.auditEveryMs);
      return;
    }
    if (wish.node === null) {
      this.#auditDueMs = nowMs + (outcome.again ? Math.min(AUDIT_RETRY_MS, bounds.auditEveryMs) : bounds.auditEveryMs);
      this.#lookAgainMs =
        outcome.lossOf(null).blobs === 0 ? LOOK_AGAIN_MS_MIN : Math.min(LOOK_AGAIN_MS_MAX, this.#lookAgainMs * 2);
    }
    await this.#writeDown(pending, outcome);
    jobs.learn(wish, (node) => findingOf(outcome, node));
  }

  async #writeDown({ wish, incidents, nodes, mendedBefore }: Pending, outcome: AuditOutcome): Promise<void> {
    const { ledger, clock, onIncidentEnded } = this.#deps;
    const repairMsOf = ({ id, noticedAtMs }: Incident) =>
      clock.monotonicMs() - (this.#noticedAtMs.get(id) ?? clock.monotonicMs() - (clock.wallMs() - noticedAtMs));
    let changed: readonly Incident[] = [];
    await ledger.change((found) => {
      const open = found.incidents.filter(({ id }) => incidents.has(id));
      changed = auditedIncidents(open, { ...outcome, node: wish.node }, repairMsOf);
      const seen = wish.node === null ? nodes : new Set([wish.node].filter((node) => nodes.has(node)));
      const looked: ReadonlySet<NodeName> = outcome.again ? new Set() : seen;
      const next = { ...found, lacking: lackingAfter(found.lacking, outcome, wish.node, Object.keys(found.nodes)) };
      return changed.reduce(withIncident, { ...next, nodes: verifiedNodes(found.nodes, looked) });
    });
    this.#mendedAtAudit = mendedBefore;
    for (const incident of changed.filter(({ repairMs }) => repairMs !== null)) {
      this.#noticedAtMs.delete(incident.id);
      onIncidentEnded?.(incident);
      const { kind, node, repairMs, objects, bytes } = incident;
      this.#deps.logger.info({ incident: kind, node, repairMs, objects, bytes }, "mended");
    }
    const isKnown = ledger.current().incidents.some(({ repairMs }) => repairMs === null);
    const loss = outcome.lossOf(null);
    if (loss.blobs > 0 && wish.node === null && !isKnown) await this.#notice("damage", null, { loss });
  }
}

function findingOf({ lossOf, orphans, queued, again }: AuditOutcome, node: NodeName | null): JobFinding {
  const { blobs: lacking, bytes: lackingBytes } = lossOf(node);
  return { lacking, lackingBytes, orphans, queued, isWhole: !again };
}

/** By node; what an audit of one node found says nothing of the others. */
function lackingAfter(
  before: Readonly<Record<string, number>> | null,
  { lossOf }: AuditOutcome,
  node: NodeName | null,
  names: readonly string[],
): Readonly<Record<string, number>> {
  if (node !== null) return { ...before, [node]: lossOf(node).blobs };
  const ofNodes = Object.fromEntries(names.map((name) => [name, lossOf(name as NodeName).blobs]));
  return { ...ofNodes, "": Math.max(0, lossOf(null).blobs - sumOf(ofNodes)) };
}

function verifiedNodes<T extends { readonly isUnverified: boolean }>(
  nodes: Readonly<Record<NodeName, T>>,
  looked: ReadonlySet<NodeName>,
): Readonly<Record<NodeName, T>> {
  return Object.fromEntries(
    Object.entries(nodes).map(([name, node]) => [
      name,
      looked.has(name as NodeName) ? { ...node, isUnverified: false } : node,
    ]),
  );
}

function wasThere(
  nodes: Readonly<Record<NodeName, { readonly instance: string; readonly awayMs: number | null }>>,
): string {
  return JSON.stringify(Object.entries(nodes).map(([name, { instance, awayMs }]) => [name, instance, awayMs === null]));
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

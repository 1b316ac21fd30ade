/** The leader's part of healing, for one term: its tracks, what it watches over, and the desk where operators meet it. */
import type { ControlsWatch } from "../desk/controls-watch.ts";
import type { HealingDesk } from "../desk/healing-desk.ts";
import { withControl, controlOf } from "../desk/healing-ledger.ts";
import type { HealingStore } from "../desk/healing-store.ts";
import { openLedger } from "../desk/open-ledger.ts";
import type { Incident, Track, TrackReport } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import type { LeaseGrant } from "../lease/lease.ts";
import type { RunOptions } from "../lib/background-work.ts";
import { runInBackground } from "../lib/background-work.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Throttle } from "../lib/throttle.ts";
import type { ObjectDeps } from "../object/deps.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import { meanRepairMs } from "./incidents.ts";
import { JobRunner } from "./job-runner.ts";
import { createLeaderDesk } from "./leader-desk.ts";
import type { OverseerBounds, OverseerDeps } from "./overseer.ts";
import { Overseer } from "./overseer.ts";
import type { TrackWork } from "./tracks.ts";
import { runTracks } from "./tracks.ts";
import { NodeVerification } from "./verify-node.ts";

export type LeadingParts = {
  readonly deps: Pick<
    ObjectDeps,
    "processName" | "clock" | "logger" | "membership" | "nodes" | "nextTxid" | "timeouts"
  >;
  readonly queue: WorkQueue;
  readonly store: HealingStore;
  readonly controls: ControlsWatch;
  /** What only a leader works on. */
  readonly tracks: readonly TrackWork[];
  readonly audit: OverseerDeps["audit"];
  /** Of the tracks of all other processes. */
  readonly reportsOfOthers: () => Promise<readonly TrackReport[]>;
  readonly mendedCount: () => number;
  /** Of what nodes are asked to verify: that of the track that mends. */
  readonly verifyThrottle: Throttle;
  readonly bounds: OverseerBounds;
  readonly setDraining: (node: NodeName, draining: boolean) => Promise<void>;
  readonly removeNode: (node: NodeName) => Promise<void>;
  /** How many blobs of records are on the node; may stop counting once there are some. */
  readonly countNamed: (node: NodeName) => Promise<number>;
  readonly onStep?: RunOptions["onStep"];
  readonly onIncidentEnded?: (incident: Incident) => void;
};

/** Disposing ends everything that the term has begun. */
export type Leading = AsyncDisposable & {
  readonly desk: Omit<HealingDesk, "close">;
  readonly status: () => LeadingStatus;
  /** A node whose absence lasts longer than anybody waits. */
  readonly isLost: (node: NodeName) => boolean;
  /** Of the leader's own tracks. */
  readonly reports: () => readonly TrackReport[];
};

export type LeadingStatus = {
  readonly replicationLag: number | null;
  readonly jobsOpen: number;
  readonly meanRepairMs: number | null;
  readonly incidentCount: number;
};

export type Term = Pick<LeaseGrant, "token" | "isHeld">;

/** Begins a term. @throws {StoreError} `healing_unavailable` (retriable) when the ledger cannot be taken over */
export async function startLeading(parts: LeadingParts, term: Term): Promise<Leading> {
  const { deps, queue, store, controls } = parts;
  const { clock, logger, membership } = deps;
  const { metadataMs, nodeMs } = deps.timeouts;
  const ledger = await openLedger(store, term.token);
  const depth = () => queue.depth(deadlineIn(clock, metadataMs));
  const running = { clock, logger, ...(parts.onStep === undefined ? {} : { onStep: parts.onStep }) };
  const tracks = runTracks(parts.tracks, { ...running, processName: deps.processName, controls });
  const reports = async () => [...tracks.reports(), ...(await parts.reportsOfOthers())];
  const verify = { clock, queue, throttle: parts.verifyThrottle, waitMs: nodeMs };
  const isNodeSettled = (node: NodeName) => {
    const memory = ledger.current().nodes[node];
    return memory !== undefined && (memory.awayMs === null || memory.isLost);
  };
  const urge = async (track: Track) => {
    const changed = await store.changeControls((found) =>
      withControl(found, track, { runs: controlOf(found, track).runs + 1 }),
    );
    await controls.refresh();
    return controlOf(changed, track).runs;
  };
  const jobs = new JobRunner({
    ...{ clock, logger, ledger, urge, reports, isNodeSettled, nextId: deps.nextTxid },
    verificationOf: (node) => {
      const blobs = deps.nodes.get(node);
      // Of a node that was given up nobody can verify anything; its blobs are elsewhere by now.
      return blobs === undefined || ledger.current().nodes[node]?.isLost === true
        ? null
        : new NodeVerification(verify, blobs);
    },
  });
  const audit: OverseerDeps["audit"] = (request) => {
    const asked = parts.audit(request);
    tracks.wake("audit");
    return asked;
  };
  const overseer = new Overseer({
    ...{ clock, logger, ledger, jobs, membership, depth, nextId: deps.nextTxid },
    ...{ audit, mendedCount: parts.mendedCount, bounds: parts.bounds },
    ...(parts.onIncidentEnded === undefined ? {} : { onIncidentEnded: parts.onIncidentEnded }),
  });
  const overseeing = runInBackground(overseer, running);
  const { setDraining, removeNode, countNamed } = parts;
  const desk = createLeaderDesk({
    ...{ leader: deps.processName, store, controls, ledger, jobs, overseer, reports, depth },
    ...{ setDraining, removeNode, countNamed },
    nodes: () => membership.snapshot(),
    wake: () => overseeing.wake(),
    isHeld: () => term.isHeld(),
  });
  return {
    desk,
    reports: () => tracks.reports(),
    isLost: (node) => ledger.current().nodes[node]?.isLost === true,
    status: () => {
      const { incidents } = ledger.current();
      return {
        replicationLag: overseer.lag(),
        jobsOpen: jobs.open().length,
        meanRepairMs: meanRepairMs(incidents),
        incidentCount: incidents.length,
      };
    },
    async [Symbol.asyncDispose]() {
      await overseeing[Symbol.asyncDispose]();
      await jobs[Symbol.asyncDispose]();
      await tracks[Symbol.asyncDispose]();
    },
  };
}

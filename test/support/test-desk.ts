/** A desk that keeps what it is told, for tests of those who talk to one. */
import type { HealingDesk } from "../../src/desk/healing-desk.ts";
import { withControl } from "../../src/desk/healing-ledger.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { HealingControls, HealingJob, HealingStatus, TrackReport } from "../../src/domain/healing.ts";
import type { NodeName } from "../../src/domain/ids.ts";

export type TestDesk = HealingDesk & {
  /** What was asked for, in words. */
  readonly calls: string[];
  readonly jobs: HealingJob[];
  readonly status_: HealingStatus;
};

const NODES = ["n1", "n2", "n3"];

export function sampleJob(changes: Partial<HealingJob> = {}): HealingJob {
  return {
    ...{
      id: "01J0000000000000000000000A",
      kind: "audit",
      node: null,
      state: "running",
      startedAtMs: 1_750_000_000_000,
    },
    ...{ endedAtMs: null, done: 1, total: 2, unit: "audits", result: { orphans: 3 }, failure: null },
    ...changes,
  };
}

export function sampleReport(changes: Partial<TrackReport> = {}): TrackReport {
  return {
    ...{ name: "scrub", track: "scrub", process: "n1", state: "busy", failure: null, paused: false },
    ...{ progress: { done: 512, total: 2_048, unit: "bytes" }, stepCount: 7, failureCount: 0, lastStepAgoMs: 20 },
    ...{ bytesPerSecondMax: 8_388_608, figures: { cellsBad: 0 } },
    ...changes,
  };
}

export function createTestDesk(): TestDesk {
  const calls: string[] = [];
  const jobs: HealingJob[] = [];
  let controls: HealingControls = {};
  const requireNode = (node: NodeName | null) => {
    if (node !== null && !NODES.includes(node)) throw new StoreError("node_unknown", `There is no node "${node}"`);
  };
  const incident = { kind: "node_returned", node: "n2" as NodeName, noticedAtMs: 1_750_000_000_000 } as const;
  const status_: HealingStatus = {
    leader: "healer-1",
    replicationLag: 4,
    waiting: [0, 3, 1],
    tracks: [sampleReport()],
    jobs,
    incidents: [
      { id: "i1", ...incident, repairMs: 2_000, objects: 0, bytes: 0 },
      { id: "i2", ...incident, repairMs: 4_000, objects: 0, bytes: 0 },
      { id: "i3", ...incident, repairMs: null, objects: 0, bytes: 0 },
    ],
    controls,
  };
  return {
    calls,
    jobs,
    status_,
    status: () => Promise.resolve({ ...status_, controls, jobs }),
    async start(kind, node) {
      requireNode(node);
      calls.push(`start ${kind} ${node ?? "all"}`);
      const job = sampleJob({ id: `job-${jobs.length + 1}`, kind, node });
      jobs.push(job);
      return job;
    },
    async job(id) {
      const job = jobs.find((one) => one.id === id);
      if (job === undefined) throw new StoreError("job_unknown", "There is no such job");
      return job;
    },
    async control(track, change) {
      calls.push(`control ${track} ${JSON.stringify(change)}`);
      return (controls = withControl(controls, track, change));
    },
    async drain(node, draining) {
      requireNode(node);
      calls.push(`${draining ? "drain" : "undrain"} ${node}`);
    },
    async remove(node) {
      requireNode(node);
      if (node === "n1") throw new StoreError("node_in_use", "n1 still holds blobs: drain it first");
      calls.push(`remove ${node}`);
    },
    close: () => Promise.resolve(),
  };
}

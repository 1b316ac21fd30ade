import type { ControlsWatch } from "../desk/controls-watch.ts";
import type { HealingDesk } from "../desk/healing-desk.ts";
import { withControl } from "../desk/healing-ledger.ts";
import type { HealingStore } from "../desk/healing-store.ts";
import type { OpenLedger } from "../desk/open-ledger.ts";
import { StoreError } from "../domain/errors.ts";
import type { TrackReport } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo } from "../domain/node-info.ts";
import type { WorkDepth } from "../work/work-queue.ts";
import type { JobRunner } from "./job-runner.ts";
import type { Overseer } from "./overseer.ts";

export type LeaderDeskDeps = {
  readonly leader: string;
  readonly store: HealingStore;
  readonly controls: Pick<ControlsWatch, "refresh">;
  readonly ledger: OpenLedger;
  readonly jobs: JobRunner;
  readonly overseer: Overseer;
  readonly nodes: () => readonly NodeInfo[];
  readonly reports: () => Promise<readonly TrackReport[]>;
  readonly depth: () => Promise<WorkDepth>;
  /** Makes the overseer look at once. */
  readonly wake: () => void;
  /** Asked before every effect: who leads no more does nothing more. */
  readonly isHeld: () => boolean;
  readonly setDraining: (node: NodeName, draining: boolean) => Promise<void>;
  readonly removeNode: (node: NodeName) => Promise<void>;
  /** How many blobs of records are on the node; may stop counting once there are some. */
  readonly countNamed: (node: NodeName) => Promise<number>;
};

/** The desk in the process that leads: others reach it over NATS, the embedded store directly. */
export function createLeaderDesk(deps: LeaderDeskDeps): Omit<HealingDesk, "close"> {
  const { store, jobs, overseer, isHeld } = deps;

  function requireTerm(): void {
    if (isHeld()) return;
    throw new StoreError("healing_unavailable", "This healer leads no more", { retriable: true });
  }

  function requireNode(node: NodeName): void {
    if (deps.nodes().some(({ name }) => name === node)) return;
    throw new StoreError("node_unknown", `There is no node "${node}"`);
  }

  return {
    async status() {
      const [tracks, depth, controls] = await Promise.all([deps.reports(), deps.depth(), store.readControls()]);
      return {
        leader: deps.leader,
        replicationLag: overseer.lag(),
        waiting: depth.byUrgency,
        tracks,
        jobs: jobs.jobs(),
        incidents: deps.ledger.current().incidents,
        controls,
      };
    },
    async start(kind, node) {
      if (node !== null) requireNode(node);
      if (kind === "recover_node" && node === null) {
        throw new StoreError("parameter_invalid", "Name the node that is to be recovered");
      }
      requireTerm();
      const job = await overseer.start(kind, node);
      deps.wake();
      return job;
    },
    async job(id) {
      return jobs.find(id);
    },
    async control(track, change) {
      requireTerm();
      const controls = await store.changeControls((found) => withControl(found, track, change));
      await deps.controls.refresh();
      return controls;
    },
    async drain(node, draining) {
      requireNode(node);
      requireTerm();
      await deps.setDraining(node, draining);
    },
    async remove(node) {
      requireNode(node);
      requireTerm();
      await requireUnused(deps, node);
      requireTerm();
      await deps.removeNode(node);
    },
  };
}

/** By evidence alone: it takes no more writes, and no record names it. @throws {StoreError} `node_in_use` */
async function requireUnused(deps: LeaderDeskDeps, node: NodeName): Promise<void> {
  const state = deps.nodes().find(({ name }) => name === node)?.state;
  if (state !== "draining" && state !== "down" && state !== "gone") {
    throw new StoreError("node_in_use", `Node ${node} takes writes: drain it first, with kintsugi node drain ${node}`);
  }
  // Should it come back meanwhile, it still takes none.
  await deps.setDraining(node, true);
  const named = await deps.countNamed(node);
  if (named === 0) return;
  throw new StoreError(
    "node_in_use",
    `Node ${node} is still named by ${named} blobs or more: wait until they are moved or made anew elsewhere, see kintsugi heal status`,
    { retriable: true, details: { node, named } },
  );
}

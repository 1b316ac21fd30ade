/**
 * One node is lost for good, once dead and once standing still, while clients write: how long until writes go on, and how
 * much slower they are. Figures of this machine at this hour; only refusals beyond the failover time are a failure.
 */
import { mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startCluster, type ClusterMember } from "../support/cluster.ts";
import { untilHealth } from "../support/cluster-load.ts";
import { createSeeded } from "../support/load/seeded.ts";
import { HistoryRecorder, type RecordedOperation } from "./history/recorder.ts";
import { FAILOVER_MS_MAX } from "./invariants/liveness.ts";
import { underLoad } from "./workload/under-load.ts";
import { KeySpace } from "./workload/keys.ts";
import { ByteBudget } from "./workload/sizes.ts";

export type LivenessOptions = {
  readonly seed: number;
  /** Of each part: with all nodes, and without one. */
  readonly seconds: number;
  readonly dir: string;
  say(text: string): void;
};

/** The default code on as many nodes as it has shards: without one there is no spare. */
const COUNTS = { gateways: 2, nodes: 6, healers: 2, nats: 3 } as const;
const CLIENTS = 6;
const BYTES_PER_SECOND = 2 * 1_048_576;
const BYTES_FIRST = 8 * 1_048_576;
const WARM_MS = 5_000;

type Span = { readonly fromMs: number; readonly toMs: number };

/** Answers what was broken of the promise; figures are said. */
export async function measureLiveness({ seed, seconds, dir, say }: LivenessOptions): Promise<string[]> {
  await rm(dir, { recursive: true, force: true });
  await mkdir(dirname(dir), { recursive: true });
  await using cluster = await startCluster({ ...COUNTS, dir });
  const recorder = new HistoryRecorder();
  const budget = new ByteBudget(BYTES_PER_SECOND, BYTES_FIRST, () => recorder.nowMs());
  const world = { recorder, budget, keys: new KeySpace(), gateways: cluster.gateways, clients: CLIENTS };
  const problems: string[] = [];
  const spanOf = async (ms: number): Promise<Span> => {
    const fromMs = recorder.nowMs();
    await sleep(ms);
    return { fromMs, toMs: recorder.nowMs() };
  };
  await underLoad(seed, world, async () => {
    await sleep(WARM_MS);
    for (const loss of LOSSES) {
      const whole = await spanOf(seconds * 1_000);
      const node = cluster.nodes[createSeeded(seed + loss.name.length).between(0, COUNTS.nodes - 1)] as ClusterMember;
      await loss.take(node);
      const without = await spanOf(FAILOVER_MS_MAX + seconds * 1_000);
      problems.push(...judge(recorder.operations, `${node.name} ${loss.name}`, whole, without, say));
      await loss.giveBack(node);
      await untilHealth(cluster, "ok");
    }
  });
  return problems;
}

const LOSSES = [
  {
    name: "dead",
    take: (node: ClusterMember) => node.kill9(),
    giveBack: (node: ClusterMember) => node.restart(),
  },
  {
    name: "standing still",
    take: (node: ClusterMember) => Promise.resolve(node.pause()),
    giveBack: (node: ClusterMember) => Promise.resolve(node.resume()),
  },
] as const;

function judge(
  operations: readonly RecordedOperation[],
  loss: string,
  whole: Span,
  without: Span,
  say: (text: string) => void,
): string[] {
  const writes = operations.filter(({ isWrite }) => isWrite);
  const begunIn = ({ fromMs, toMs }: Span) => writes.filter(({ startMs }) => startMs >= fromMs && startMs < toMs);
  const after = begunIn(without);
  const refused = after.filter(({ status }) => status >= 500 || status === 0);
  const firstMs =
    Math.min(...after.filter(({ outcome }) => outcome === "ok").map(({ endMs }) => endMs)) - without.fromMs;
  const lastRefusedMs = Math.max(0, ...refused.map(({ startMs }) => startMs - without.fromMs));
  const steady = begunIn({ ...without, fromMs: without.fromMs + FAILOVER_MS_MAX });
  const [healthy, first, later] = [begunIn(whole), after, steady].map(p99) as [number, number, number];
  say(`${loss}: first write answered ${firstMs.toFixed(0)} ms after it; ${refused.length} of ${after.length} refused`);
  say(
    `${loss}: p99 of writes ${healthy.toFixed(0)} ms before, ${first.toFixed(0)} ms since, ${later.toFixed(0)} ms from ${FAILOVER_MS_MAX / 1_000} s on (${(later / healthy).toFixed(2)} times; at most 2 wanted)`,
  );
  return lastRefusedMs <= FAILOVER_MS_MAX
    ? []
    : [`I8: ${loss}: writes are still refused ${(lastRefusedMs / 1_000).toFixed(1)} s after it`];
}

function p99(operations: readonly RecordedOperation[]): number {
  const tookMs = operations.map(({ startMs, endMs }) => endMs - startMs).sort((a, b) => a - b);
  return tookMs[Math.floor(tookMs.length * 0.99)] ?? Number.NaN;
}

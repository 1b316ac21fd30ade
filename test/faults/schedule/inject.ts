/** Does to a cluster what a fault says, and takes it back when its time is over. Decides nothing. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readHealth } from "../../support/cluster-load.ts";
import type { ClusterMember, LocalCluster } from "../../support/cluster.ts";
import type { SmallDisk } from "../../support/disk/small-disk.ts";
import type { Seeded } from "../../support/load/seeded.ts";
import type { TestNetwork } from "../../support/network.ts";
import { corruptDisk } from "./corrupt-disk.ts";
import type { ExitWatch } from "./exit-watch.ts";
import type { Fault } from "./plan-faults.ts";

export type Injection = {
  readonly cluster: LocalCluster;
  readonly exits: ExitWatch;
  readonly network: TestNetwork | null;
  readonly smallDisk: SmallDisk | null;
  readonly random: Seeded;
  /** Nodes whose bytes have been flipped. */
  readonly corrupted: Set<string>;
  /** Resolves when nothing is missing anywhere; false when that takes too long. */
  untilWhole(): Promise<boolean>;
  say(text: string): void;
};

/** What is left of a full disk, well below the reserve of a node. */
const FULL_FREE_BYTES = 16 * 1_048_576;

const ASKED_MAX = 60;
const ASKED_MS_MAX = 10_000;
const ASKED_AGAIN_MS = 1_000;

/** Resolves when the fault is over and what it took away is back. */
export async function inject(injection: Injection, fault: Fault): Promise<void> {
  const { cluster, network, smallDisk } = injection;
  const last = () => sleep(fault.lastsMs);
  switch (fault.kind) {
    case "kill":
      return await killFor(injection, [cluster.member(fault.target)], last);
    case "pause": {
      const member = cluster.member(fault.target);
      member.pause();
      await last();
      return member.resume();
    }
    case "restart": {
      const member = cluster.member(fault.target);
      injection.exits.expect(member);
      await member.stop();
      await last();
      return await injection.exits.restart(member);
    }
    case "kill-nats-leader": {
      const { name } = await cluster.leaderOf(fault.target);
      return await killFor(injection, [cluster.member(name)], last);
    }
    case "kill-leading-healer":
      return await killFor(injection, [await leadingHealer(cluster)], last);
    case "kill-majority":
      return await killFor(injection, majorityOf(cluster, fault.target), last);
    case "restart-all":
      for (const member of cluster.members) injection.exits.expect(member);
      await cluster.killAll();
      await last();
      await cluster.startAll();
      return injection.exits.rearm();
    case "partition":
      await network?.[fault.loss ?? "cutOff"](fault.target);
      await last();
      return await network?.heal();
    case "full-disk":
      await smallDisk?.leaveFree(FULL_FREE_BYTES);
      await last();
      return await smallDisk?.leaveFree(Number.MAX_SAFE_INTEGER);
    case "drain":
      await askUntilDone(cluster, `/cluster/nodes/${fault.target}/drain`);
      await last();
      return await askUntilDone(cluster, `/cluster/nodes/${fault.target}/undrain`);
    case "wipe":
      return await wipe(injection, cluster.member(fault.target), last);
    case "corrupt":
      return await corrupt(injection, cluster.member(fault.target), fault.flips ?? 1);
  }
}

async function killFor(
  { exits }: Injection,
  members: readonly ClusterMember[],
  last: () => Promise<void>,
): Promise<void> {
  for (const member of members) exits.expect(member);
  await Promise.all(members.map((member) => member.kill9()));
  await last();
  await Promise.all(members.map((member) => exits.restart(member)));
}

async function wipe(injection: Injection, node: ClusterMember, last: () => Promise<void>): Promise<void> {
  if (!(await injection.untilWhole())) return injection.say(`${node.name} is not wiped: something is missing already`);
  injection.say(`now wiping ${node.name}`);
  injection.exits.expect(node);
  await node.kill9();
  // The folder itself may be where a disk is mounted.
  const entries = await readdir(node.dataDir);
  await Promise.all(entries.map((name) => rm(join(node.dataDir, name), { recursive: true, force: true })));
  await last();
  await injection.exits.restart(node);
}

async function corrupt(injection: Injection, node: ClusterMember, flips: number): Promise<void> {
  if (!(await injection.untilWhole())) return injection.say(`${node.name} stays sound: something is missing already`);
  injection.corrupted.add(node.name);
  const flipped = await corruptDisk(injection.random, join(node.dataDir, "blobs"), flips);
  injection.say(`flipped ${flipped} bytes of ${node.name}`);
}

/** @throws {Error} when no gateway can be brought to do it */
async function askUntilDone({ gateways }: LocalCluster, path: string): Promise<void> {
  let heard = "";
  for (let tries = 0; tries < ASKED_MAX; tries += 1) {
    const { url } = gateways[tries % gateways.length] as ClusterMember;
    try {
      const response = await fetch(url + path, { method: "POST", signal: AbortSignal.timeout(ASKED_MS_MAX) });
      if (response.ok) return;
      heard = await response.text();
    } catch (cause) {
      heard = String(cause);
    }
    await sleep(ASKED_AGAIN_MS);
  }
  throw new Error(`POST ${path} is not done: ${heard}`);
}

async function leadingHealer(cluster: LocalCluster): Promise<ClusterMember> {
  for (const { url } of cluster.gateways.filter(({ isRunning }) => isRunning)) {
    const leader = (await readHealth(url))?.coordination.leader;
    const healer = cluster.healers.find(({ name }) => name === leader);
    if (healer !== undefined) return healer;
  }
  return cluster.healers[0] as ClusterMember;
}

function majorityOf(cluster: LocalCluster, what: string): ClusterMember[] {
  const members = cluster.members.filter(({ role }) => role === (what === "nats" ? "nats" : "node"));
  return members.slice(0, Math.floor(members.length / 2) + 1);
}

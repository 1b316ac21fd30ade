import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeState } from "../../src/domain/node-info.ts";
import type { NatsMembership } from "../../src/membership/nats-membership.ts";
import { joinNatsMembership } from "../../src/membership/nats-membership.ts";
import type { TestChild } from "../support/child-process.ts";
import { startChild } from "../support/child-process.ts";
import type { MemberChild } from "../support/member-child.ts";
import { memberSelf } from "../support/member-self.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";

const QUICK = { heartbeatMs: 100, suspectMs: 500, downMs: 1_000, registerMs: 200 };
const SOON = { timeout: 30_000, interval: 10 };

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats({ servers: 3 })));
afterAll(() => nats[Symbol.asyncDispose]());

function startMember(given: Pick<MemberChild, "clusterName" | "role" | "name" | "identity">): TestChild {
  const servers = { urls: nats.urls, replicas: nats.replicas };
  const options: MemberChild = { servers, options: QUICK, ...given };
  return startChild(process.execPath, ["test/support/member-child.ts", JSON.stringify(options)]);
}

async function openObserver(clusterName: string) {
  const link = await openTestLink(nats, { clusterName });
  const membership = await joinNatsMembership(link, memberSelf({ role: "gateway", name: "observer" }), QUICK);
  return {
    link,
    membership,
    async [Symbol.asyncDispose]() {
      await membership.close();
      await link.close();
    },
  };
}

/** Resolves with the states that the node went through until the wanted one. */
function statesUntil(membership: NatsMembership, name: string, wanted: NodeState): Promise<NodeState[]> {
  const states: NodeState[] = [];
  return new Promise((resolve) => {
    const stop = membership.watch((nodes) => {
      const state = nodes.find((node) => node.name === name)?.state;
      if (state === undefined || state === states.at(-1)) return;
      states.push(state);
      if (state !== wanted) return;
      stop();
      resolve(states);
    });
  });
}

/** Resolves when the only node is live in the eyes of the observer. */
async function untilLive(membership: NatsMembership): Promise<void> {
  await expect.poll(() => membership.snapshot()[0]?.state, SOON).toBe("live");
}

describe("joinNatsMembership() in processes of their own", () => {
  test("kill -9: the node is suspect, then down; restarted on its directory it has its name and lives at once", async () => {
    await using observer = await openObserver("kill");
    const n1 = { clusterName: "kill", role: "node", name: "n1", identity: "d1" } as const;
    await using first = startMember(n1);
    await first.linesReach(1);
    expect(first.lines[0]).toBe("joined");
    await untilLive(observer.membership);
    const dying = statesUntil(observer.membership, "n1", "down");
    await first.kill();
    expect(await dying).toEqual(["suspect", "down"]);
    const living = statesUntil(observer.membership, "n1", "live");
    await using second = startMember(n1);
    await second.linesReach(1);
    expect(second.lines[0]).toBe("joined");
    expect((await living).at(-1)).toBe("live");
  });

  test("SIGSTOP and SIGCONT: suspect, down, and live again, with its name", async () => {
    await using observer = await openObserver("stop");
    await using node = startMember({ clusterName: "stop", role: "node", name: "n1", identity: "d1" });
    await node.linesReach(1);
    await untilLive(observer.membership);
    const sleeping = statesUntil(observer.membership, "n1", "down");
    node.signal("SIGSTOP");
    expect(await sleeping).toEqual(["suspect", "down"]);
    const waking = statesUntil(observer.membership, "n1", "live");
    node.signal("SIGCONT");
    expect(await waking).toEqual(["live"]);
    expect(node.lines.filter((line) => line.startsWith("lost"))).toEqual([]);
  });

  test("a process that slept while another one took its name learns that it lost it, and disturbs nobody", async () => {
    await using observer = await openObserver("sleep");
    const n1 = { clusterName: "sleep", role: "node", name: "n1" } as const;
    await using sleeper = startMember({ ...n1, identity: "d1" });
    await sleeper.linesReach(1);
    sleeper.signal("SIGSTOP");
    await using heir = startMember({ ...n1, identity: "d2" });
    await heir.linesReach(1);
    expect(heir.lines[0]).toBe("joined");
    await untilLive(observer.membership);
    const disturbed: unknown[] = [];
    observer.membership.watch((nodes) => disturbed.push(nodes));
    sleeper.signal("SIGCONT");
    await expect.poll(() => sleeper.lines.at(-1), SOON).toBe("lost name_taken");
    expect(disturbed).toEqual([]);
    expect(heir.lines.filter((line) => line.startsWith("lost"))).toEqual([]);
  });

  test("a second process with a live name is refused, and the first goes on", async () => {
    const gateway = { clusterName: "twice", role: "gateway", name: "g1" } as const;
    await using first = startMember({ ...gateway, identity: "d1" });
    await first.linesReach(1);
    await using second = startMember({ ...gateway, identity: "d2" });
    expect(await second.ended()).toBe(0);
    expect(second.lines).toEqual(["refused name_taken"]);
    expect(first.lines).toEqual(["joined"]);
  });

  test("kill -9 of the server that leads the register: nobody looks dead, and joining goes on", async () => {
    await using observer = await openObserver("leader");
    await using node = startMember({ clusterName: "leader", role: "node", name: "n1", identity: "d1" });
    await node.linesReach(1);
    const leader = await nats.leaderOf(`KV_${observer.link.names.membersBucket}`);
    await leader.kill9();
    try {
      await using late = startMember({ clusterName: "leader", role: "node", name: "n2", identity: "d2" });
      await late.linesReach(1);
      expect(late.lines[0]).toBe("joined");
      const live = () => observer.membership.snapshot().map(({ name, state }) => `${name} ${state}`);
      await expect.poll(live, SOON).toEqual(["n1 live", "n2 live"]);
      await observer.membership.setDraining(observer.membership.snapshot()[1]!.name, true);
      await expect.poll(() => node.lines.at(-1), SOON).toBe("n1 live n2 draining");
    } finally {
      await leader.restart();
    }
  });
});

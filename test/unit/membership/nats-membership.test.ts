import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { NodeInfo, NodeState } from "../../../src/domain/node-info.ts";
import { memberCodec } from "../../../src/membership/member-messages.ts";
import type { MembershipOptions, MemberSelf, NatsMembership } from "../../../src/membership/nats-membership.ts";
import { joinNatsMembership } from "../../../src/membership/nats-membership.ts";
import { openKv } from "../../../src/nats/nats-kv.ts";
import type { NatsLink } from "../../../src/nats/nats-link.ts";
import { memberSelf } from "../../support/member-self.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

/** Short, with room for a machine that is busy. */
const QUICK: Partial<MembershipOptions> = { heartbeatMs: 100, suspectMs: 500, downMs: 1_000, registerMs: 200 };

const SOON = { timeout: 20_000 };

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats()));
afterAll(() => nats[Symbol.asyncDispose]());

let clusters = 0;

/** A cluster of its own, in which processes come and go. */
function newCluster() {
  const clusterName = `unit-${(clusters += 1)}`;
  const open = new AsyncDisposableStack();
  const link = async () => open.adopt(await openTestLink(nats, { clusterName }), (opened) => opened.close());
  return {
    link,
    async join(
      self: Partial<MemberSelf> & Pick<MemberSelf, "role" | "name">,
      options: Partial<MembershipOptions> = {},
      own?: NatsLink,
    ): Promise<NatsMembership> {
      const joined = await joinNatsMembership(own ?? (await link()), memberSelf(self), { ...QUICK, ...options });
      return open.adopt(joined, (membership) => membership.close());
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Ends a process the hard way: its connection is cut, without a word. */
async function cut(link: NatsLink): Promise<void> {
  await link.connection.close();
}

function statesOf(nodes: readonly NodeInfo[]): Readonly<Record<string, NodeState>> {
  return Object.fromEntries(nodes.map(({ name, state }) => [name, state]));
}

/** Resolves when the node is in that state. */
function untilState(membership: NatsMembership, name: string, wanted: NodeState): Promise<void> {
  return new Promise((resolve) => {
    const look = (nodes: readonly NodeInfo[]) => {
      if (statesOf(nodes)[name] !== wanted) return;
      stop();
      resolve();
    };
    const stop = membership.watch(look);
    look(membership.snapshot());
  });
}

const taken = expect.objectContaining({ code: "name_taken" });
const n1 = "n1" as NodeName;

describe("joinNatsMembership()", () => {
  test("shows a newcomer all live processes when it resolves", async () => {
    await using cluster = newCluster();
    await cluster.join({ role: "node", name: "n2", zone: "z2", weight: 2, address: "10.0.0.2:8100" });
    await cluster.join({ role: "healer", name: "h1" });
    const describe = () => ({ state: "full" as const, load: { cpuPercent: 12, broken: Number.NaN } });
    await cluster.join({ role: "node", name: "n1", zone: "z1", address: "10.0.0.1:8100", describe });
    const gateway = await cluster.join({ role: "gateway", name: "g1", address: "10.0.0.3:8000", version: "1.2.3" });
    expect(gateway.snapshot()).toEqual([
      { name: "n1", state: "full", region: "local", zone: "z1", weight: 1 },
      { name: "n2", state: "live", region: "local", zone: "z2", weight: 2 },
    ]);
    expect(gateway.processes().map(({ role, name, state }) => `${role} ${name} ${state}`)).toEqual([
      "gateway g1 live",
      "node n1 live",
      "node n2 live",
      "healer h1 live",
    ]);
    expect(gateway.processes()[0]).toMatchObject({ address: "10.0.0.3:8000", version: "1.2.3", zone: "local" });
    expect(gateway.processes()[1]?.load).toEqual({ cpuPercent: 12 });
    expect(gateway.addressOf(n1)).toBe("10.0.0.1:8100");
    expect(gateway.addressOf("n3" as NodeName)).toBeNull();
  });

  test("tells those who are there of a newcomer, with its address", async () => {
    await using cluster = newCluster();
    const gateway = await cluster.join({ role: "gateway", name: "g1" });
    const seen = untilState(gateway, "n1", "live");
    await cluster.join({ role: "node", name: "n1", address: "10.0.0.1:8100" });
    await seen;
    expect(gateway.addressOf(n1)).toBe("10.0.0.1:8100");
  });

  test("knows a node that has been off for long, and sees it go from suspect over down to gone", async () => {
    await using cluster = newCluster();
    const node = await cluster.link();
    await cluster.join({ role: "node", name: "n1" }, {}, node);
    await cut(node);
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, { goneMs: 1_500 });
    const told: NodeState[] = [gateway.snapshot()[0]!.state];
    gateway.watch((nodes) => told.push(nodes[0]!.state));
    await untilState(gateway, "n1", "gone");
    expect(told).toEqual(["suspect", "down", "gone"]);
  });

  test("refuses the name of a live process of the same role, and says who has it", async () => {
    await using cluster = newCluster();
    await cluster.join({ role: "gateway", name: "a", address: "10.0.0.1:8000" });
    await cluster.join({ role: "node", name: "a" });
    const refused = cluster.join({ role: "gateway", name: "a", identity: "another" });
    await expect(refused).rejects.toThrow(taken);
    await expect(refused).rejects.toThrow(
      /"a" belongs to another gateway at 10\.0\.0\.1:8000, running since 20.*--name/,
    );
  });

  test("gives the name at once to the identity that had it, and keeps the operator's wish", async () => {
    await using cluster = newCluster();
    const former = await cluster.link();
    const gateway = await cluster.join({ role: "gateway", name: "g1" });
    await cluster.join({ role: "node", name: "n1", identity: "d1", address: "10.0.0.1:1" }, {}, former);
    await gateway.setDraining(n1, true);
    await cut(former);
    // To wait for its silence would take ten minutes.
    await cluster.join({ role: "node", name: "n1", identity: "d1", address: "10.0.0.1:2" }, { downMs: 600_000 });
    await expect.poll(() => gateway.addressOf(n1), SOON).toBe("10.0.0.1:2");
    expect(statesOf(gateway.snapshot())).toEqual({ n1: "draining" });
  });

  test("gives the name to another identity once its holder is silent", async () => {
    await using cluster = newCluster();
    const former = await cluster.link();
    await cluster.join({ role: "node", name: "n1", identity: "d1" }, {}, former);
    await cut(former);
    const heir = await cluster.join({ role: "node", name: "n1", identity: "d2" });
    expect(statesOf(heir.snapshot())).toEqual({ n1: "live" });
  });

  test("gives the name to another identity at once when its holder said goodbye", async () => {
    await using cluster = newCluster();
    await (await cluster.join({ role: "node", name: "n1", identity: "d1" })).close();
    await cluster.join({ role: "node", name: "n1", identity: "d2" }, { downMs: 600_000 });
  });

  test("lets one of many newcomers have a name", async () => {
    await using cluster = newCluster();
    const outcomes = await Promise.allSettled(
      [1, 2, 3, 4].map((n) => cluster.join({ role: "gateway", name: "g", identity: `d${n}` })),
    );
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === "rejected") expect(outcome.reason).toEqual(taken);
  });

  test("lets one of many newcomers have the name of a dead process", async () => {
    await using cluster = newCluster();
    const former = await cluster.link();
    await cluster.join({ role: "gateway", name: "g", identity: "d0" }, {}, former);
    await cut(former);
    const outcomes = await Promise.allSettled(
      [1, 2, 3].map((n) => cluster.join({ role: "gateway", name: "g", identity: `d${n}` })),
    );
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === "rejected") expect(outcome.reason).toEqual(taken);
  });

  test("refuses a name that cannot stand in a subject", async () => {
    await using cluster = newCluster();
    const refused = cluster.join({ role: "gateway", name: "a.b" });
    await expect(refused).rejects.toThrow(expect.objectContaining({ code: "config_invalid" }));
  });
});

describe("NatsMembership", () => {
  test("lost resolves when another process has taken the name", async () => {
    await using cluster = newCluster();
    const firstLink = await cluster.link();
    const first = await cluster.join({ role: "node", name: "n1", identity: "d1" }, {}, firstLink);
    const observer = await cluster.join({ role: "gateway", name: "g1" });
    // A copy of the data directory on another machine: nothing there proves that the original is still at work.
    const copy = await cluster.join({ role: "node", name: "n1", identity: "d1", address: "10.0.0.9:1" });
    expect(await first.lost).toEqual(taken);
    const said: string[] = [];
    firstLink.connection.publish = (subject) => void said.push(subject);
    const heardSince = () => copy.processes().find(({ name }) => name === "g1")!.uptimeMs;
    const losing = heardSince();
    await expect.poll(() => heardSince() - losing, SOON).toBeGreaterThan(300);
    await first.close();
    expect(said.filter((subject) => !subject.startsWith("$JS.API."))).toEqual([]);
    // Its end says nothing of the process that has the name now.
    await expect.poll(() => observer.addressOf(n1), SOON).toBe("10.0.0.9:1");
    expect(statesOf(observer.snapshot())).toEqual({ n1: "live" });
    expect(statesOf(copy.snapshot())).toEqual({ n1: "live" });
  });

  test("lost resolves also when the others' words about it were not heard", async () => {
    await using cluster = newCluster();
    const link = await cluster.link();
    const first = await cluster.join({ role: "node", name: "n1", identity: "d1" });
    const kv = await openKv(link, link.names.membersBucket);
    const entry = await kv.get("node.n1");
    const { instance: _instance, ...record } = memberCodec.decode(entry!.value);
    await kv.put("node.n1", memberCodec.encode({ ...record, instance: "another" }));
    expect(await first.lost).toEqual(taken);
  });

  test("close() makes others see a node as down at once", async () => {
    await using cluster = newCluster();
    const node = await cluster.join({ role: "node", name: "n1" });
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, { suspectMs: 600_000, downMs: 600_000 });
    const down = untilState(gateway, "n1", "down");
    await node.close();
    await down;
    // Who comes later need not wait for it either.
    const late = await cluster.join({ role: "gateway", name: "g2" }, { suspectMs: 600_000, downMs: 600_000 });
    expect(statesOf(late.snapshot())).toEqual({ n1: "down" });
  });

  test("close() is heard also while the register does not answer", async () => {
    await using cluster = newCluster();
    const link = await cluster.link();
    const node = await cluster.join({ role: "node", name: "n1" });
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, { suspectMs: 600_000, downMs: 600_000 });
    const down = untilState(gateway, "n1", "down");
    await (await jetstreamManager(link.connection)).streams.delete(`KV_${link.names.membersBucket}`);
    await Promise.all([node.close(), down]);
  });

  test("setDraining() is seen by everyone, outlives the node, and ends", async () => {
    await using cluster = newCluster();
    const nodeLink = await cluster.link();
    await cluster.join({ role: "node", name: "n1" }, {}, nodeLink);
    const one = await cluster.join({ role: "gateway", name: "g1" });
    const two = await cluster.join({ role: "gateway", name: "g2" });
    await one.setDraining(n1, true);
    expect(statesOf(one.snapshot())).toEqual({ n1: "draining" });
    await untilState(two, "n1", "draining");
    await two.setDraining(n1, true);
    await two.setDraining(n1, false);
    await untilState(one, "n1", "live");
    const nobody = one.setDraining("n9" as NodeName, true);
    await expect(nobody).rejects.toThrow(expect.objectContaining({ code: "parameter_invalid" }));
  });

  test("report() of a dead node holds against its heartbeats until its time is up", async () => {
    await using cluster = newCluster();
    let beats = 0;
    const describe = () => ({ state: "live" as const, load: { beats: (beats += 1) } });
    await cluster.join({ role: "node", name: "n1", describe });
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, { breakerMsMin: 1_000 });
    const beatsHeard = () => gateway.processes().find(({ name }) => name === "n1")?.load["beats"] ?? 0;
    gateway.report(n1, "down");
    const states: NodeState[] = [];
    gateway.watch((nodes) => states.push(nodes[0]!.state));
    const before = beatsHeard();
    await untilState(gateway, "n1", "live");
    expect(beatsHeard()).toBeGreaterThan(before);
    expect(states).toEqual(["live"]);
  });

  test("a report of full ends with the next heartbeat, which knows better", async () => {
    await using cluster = newCluster();
    await cluster.join({ role: "node", name: "n1" });
    const gateway = await cluster.join({ role: "gateway", name: "g1" });
    gateway.report(n1, "full");
    expect(statesOf(gateway.snapshot())).toEqual({ n1: "full" });
    await untilState(gateway, "n1", "live");
  });

  test("a node that was cut off for a while lives again from its next heartbeat on", async () => {
    await using cluster = newCluster();
    const link = await cluster.link();
    await cluster.join({ role: "node", name: "n1" }, {}, link);
    const gateway = await cluster.join({ role: "gateway", name: "g1" });
    const publish = link.connection.publish.bind(link.connection);
    link.connection.publish = () => {};
    await untilState(gateway, "n1", "suspect");
    await untilState(gateway, "n1", "down");
    link.connection.publish = publish;
    await untilState(gateway, "n1", "live");
  });

  test("nobody looks dead to a process that is cut off itself", async () => {
    await using cluster = newCluster();
    let beats = 0;
    const describe = () => ({ state: "live" as const, load: { beats: (beats += 1) } });
    await cluster.join({ role: "node", name: "n1", describe });
    const link = await cluster.link();
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, { suspectMs: 1_000, downMs: 1_500 }, link);
    const told: NodeState[] = [];
    gateway.watch((nodes) => told.push(nodes[0]!.state));
    nats.servers[0]!.pause();
    await link.clock.sleep(2_000);
    nats.servers[0]!.resume();
    const missed = beats;
    const beatsHeard = () => gateway.processes().find(({ name }) => name === "n1")?.load["beats"];
    await expect.poll(beatsHeard, SOON).toBeGreaterThan(missed);
    expect(told).toEqual([]);
  });

  test("gateways and healers that stay away are forgotten, nodes are not, and who comes back is known again", async () => {
    await using cluster = newCluster();
    const quick = { goneMs: 1_500 };
    const links = [await cluster.link(), await cluster.link()] as const;
    const healer = await cluster.join({ role: "healer", name: "h1" }, quick, links[0]);
    await cluster.join({ role: "node", name: "n1" }, quick, links[1]);
    const gateway = await cluster.join({ role: "gateway", name: "g1" }, quick);
    const known = () => gateway.processes().map(({ role, name }) => `${role} ${name}`);
    expect(known()).toEqual(["gateway g1", "node n1", "healer h1"]);
    const publish = links[0].connection.publish.bind(links[0].connection);
    links[0].connection.publish = () => {};
    await cut(links[1]);
    await untilState(gateway, "n1", "gone");
    await expect.poll(known, SOON).toEqual(["gateway g1", "node n1"]);
    links[0].connection.publish = publish;
    await expect.poll(known, SOON).toEqual(["gateway g1", "node n1", "healer h1"]);
    expect(await Promise.race([healer.lost, "not lost"])).toBe("not lost");
  });

  test("words that cannot be read harm nobody", async () => {
    await using cluster = newCluster();
    const link = await cluster.link();
    const gateway = await cluster.join({ role: "gateway", name: "g1" });
    const { connection, names } = link;
    for (const subject of [names.heartbeatSubject("node", "n1"), names.memberSubject("node", "n1")]) {
      for (const words of ["", "\u0001", "\u0001\u0080", "\u00ff"])
        connection.publish(subject, Buffer.from(words, "latin1"));
    }
    connection.publish(names.heartbeatSubject("stranger", "n1"), Buffer.from("\u0001", "latin1"));
    await connection.flush();
    const seen = untilState(gateway, "n1", "live");
    await cluster.join({ role: "node", name: "n1" });
    await seen;
  });
});

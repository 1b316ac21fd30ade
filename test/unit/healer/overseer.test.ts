import { describe, expect, test } from "vitest";
import { NO_LOSS } from "../../../src/domain/healing.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { AuditOutcome } from "../../../src/healer/overseer.ts";
import type { LeadingOptions, TestLeading } from "../../support/leading.ts";
import { createMemoryHealingStore, NOTHING_FOUND, openTestLeading } from "../../support/leading.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import { sampleReport } from "../../support/test-desk.ts";

const n2 = "n2" as NodeName;

async function open(options: Partial<LeadingOptions> = {}) {
  const clock = (options.clock ?? new ManualClock()) as ManualClock;
  const healing = await openTestLeading({ clock, ...options });
  const pass = async (ms: number) => {
    for (let left = ms; left >= 0; left -= 250) {
      clock.advance(Math.min(250, left));
      for (let turn = 0; turn < 8; turn += 1) await settle();
    }
  };
  await pass(0);
  return { ...withDesk(healing), clock, pass };
}

function withDesk(healing: TestLeading) {
  const { desk } = healing.leading;
  const jobs = async () =>
    (await desk.status()).jobs.map(({ kind, node, state }) => [kind, node, state].filter(Boolean).join(" "));
  const incidents = async () =>
    (await desk.status()).incidents.map(({ kind, node, repairMs }) => `${kind} ${node} ${repairMs ?? "open"}`);
  return { healing, desk, jobs, incidents, end: () => healing[Symbol.asyncDispose]() };
}

/** Lacks `count` blobs on n2. */
const lacking = (count: number): AuditOutcome => ({
  ...NOTHING_FOUND,
  lossOf: (node) => (node === n2 || node === null ? { blobs: count, objects: count, bytes: 1_000 * count } : NO_LOSS),
});

describe("a leader of healing", () => {
  test("audits a while after it began, and then as often as it is set to", async () => {
    const { healing, pass, end } = await open({ bounds: { auditEveryMs: 100_000 } });
    await pass(29_000);
    expect(healing.audits).toEqual([]);
    await pass(2_000);
    expect(healing.audits).toEqual(["all"]);
    await pass(98_000);
    expect(healing.audits).toEqual(["all"]);
    await pass(4_000);
    expect(healing.audits).toEqual(["all", "all"]);
    await end();
  });

  test("recovers a node that is back, and notes how long it took since it went", async () => {
    let found = lacking(3);
    const { healing, pass, jobs, incidents, desk, end } = await open({ audit: () => Promise.resolve(found) });
    healing.membership.report(n2, "down");
    await pass(10_000);
    expect([await jobs(), await incidents()]).toEqual([[], []]);
    healing.membership.report(n2, "live");
    await pass(2_000);
    expect([await jobs(), await incidents()]).toEqual([["recover_node n2 running"], ["node_returned n2 open"]]);
    expect(healing.audits[0]).toBe("n2");
    expect((await desk.status()).replicationLag).toBe(3);
    found = lacking(0);
    await pass(10_000);
    expect(await jobs()).toEqual(["recover_node n2 done"]);
    const [incident] = (await desk.status()).incidents;
    expect(incident?.repairMs).toBeGreaterThanOrEqual(10_000);
    expect(incident).toMatchObject({ objects: 3, bytes: 3_000 });
    expect((await desk.status()).jobs[0]?.result).toMatchObject({ mended: 3, mendedBytes: 3_000 });
    expect((await desk.status()).replicationLag).toBe(0);
    await end();
  });

  test("gives up a node that is away for too long", async () => {
    const { healing, pass, jobs, incidents, end } = await open();
    healing.membership.report(n2, "down");
    await pass(58_000);
    expect(await jobs()).toEqual([]);
    await pass(8_000);
    expect(await jobs()).toEqual(["recover_node n2 done"]);
    expect(await incidents()).toEqual([expect.stringMatching(/^node_lost n2 \d+$/)]);
    await end();
  });

  test("ends a recovery whose node has gone again, and begins another when it is back", async () => {
    const { healing, pass, jobs, desk, end } = await open({ audit: () => Promise.resolve(lacking(1)) });
    await desk.start("recover_node", n2);
    await pass(1_000);
    healing.membership.report(n2, "down");
    await pass(2_000);
    healing.membership.report(n2, "live");
    await pass(2_000);
    expect(await jobs()).toEqual(["recover_node n2 failed", "recover_node n2 running"]);
    await end();
  });

  test("asks for one audit where several jobs need one", async () => {
    const { promise, resolve } = Promise.withResolvers<AuditOutcome>();
    const { healing, pass, jobs, desk, end } = await open({ audit: () => promise });
    await desk.start("audit", null);
    await desk.start("collect", null);
    await desk.start("recover_node", n2);
    await pass(5_000);
    resolve(NOTHING_FOUND);
    await pass(5_000);
    expect(await jobs()).toEqual(["audit done", "collect done", "recover_node n2 done"]);
    expect(healing.audits.length).toBeLessThanOrEqual(2);
    await end();
  });

  test("answers the job that runs instead of a second one of its kind and node", async () => {
    const { desk, end } = await open({ audit: () => new Promise(() => {}) });
    const first = await desk.start("audit", null);
    expect((await desk.start("audit", null)).id).toBe(first.id);
    expect((await desk.start("audit", n2)).id).not.toBe(first.id);
    await end();
  });

  test("looks again by itself until what lacked is there, less and less often", async () => {
    let found = lacking(2);
    const { healing, pass, incidents, desk, end } = await open({ audit: () => Promise.resolve(found) });
    await pass(31_000);
    expect(await incidents()).toEqual(["damage null open"]);
    await pass(120_000);
    expect(healing.audits.length).toBeGreaterThan(3);
    expect(healing.audits.length).toBeLessThan(10);
    found = NOTHING_FOUND;
    await pass(200_000);
    expect(await incidents()).toEqual([expect.stringMatching(/^damage null \d+$/)]);
    expect((await desk.status()).replicationLag).toBe(0);
    await end();
  });

  test("believes nothing of an audit that has not seen everything", async () => {
    let found: AuditOutcome = { ...NOTHING_FOUND, again: true };
    const { healing, pass, jobs, incidents, end } = await open({ audit: () => Promise.resolve(found) });
    healing.membership.report(n2, "down");
    await pass(1_000);
    healing.membership.report(n2, "live");
    await pass(20_000);
    expect([await jobs(), await incidents()]).toEqual([["recover_node n2 running"], ["node_returned n2 open"]]);
    found = NOTHING_FOUND;
    await pass(40_000);
    expect(await jobs()).toEqual(["recover_node n2 done"]);
    await end();
  });

  test("tries again after an audit that failed", async () => {
    let tries = 0;
    const { pass, jobs, desk, end } = await open({
      audit: () => ((tries += 1) < 3 ? Promise.reject(new Error("broken off")) : Promise.resolve(NOTHING_FOUND)),
    });
    await desk.start("audit", null);
    await pass(10_000);
    expect(await jobs()).toEqual(["audit done"]);
    await end();
  });

  test("urges the nodes to scrub and waits for all of them", async () => {
    const { healing, pass, jobs, desk, end } = await open();
    await desk.start("scrub", null);
    healing.reports = [sampleReport({ process: "n1", figures: { runs: 0 } })];
    await pass(5_000);
    expect([await jobs(), healing.controls().scrub?.runs]).toEqual([["scrub running"], 1]);
    healing.reports = [sampleReport({ process: "n1", figures: { runs: 1 } })];
    await pass(2_000);
    expect(await jobs()).toEqual(["scrub done"]);
    await end();
  });

  test("goes on with the jobs and incidents of the leader before it, which can write nothing any more", async () => {
    const store = createMemoryHealingStore();
    const clock = new ManualClock();
    const first = await open({ clock, store, audit: () => new Promise(() => {}) });
    const { id } = await first.desk.start("recover_node", n2);
    await first.pass(1_000);
    const second = await open({ clock, store, term: { token: 2, isHeld: () => true } });
    await expect(first.desk.start("audit", null)).rejects.toMatchObject({ code: "healing_unavailable" });
    await second.pass(10_000);
    expect(await second.desk.job(id)).toMatchObject({ state: "done", kind: "recover_node", node: "n2" });
    expect(await second.incidents()).toEqual([expect.stringMatching(/^on_demand n2 \d+$/)]);
    await first.end();
    await second.end();
  });

  test("sees from what its predecessor knew that a node was away in between", async () => {
    const store = createMemoryHealingStore();
    const clock = new ManualClock();
    const first = await open({ clock, store });
    first.healing.membership.report(n2, "down");
    await first.pass(15_000);
    await first.end();
    const second = await open({ clock, store, term: { token: 2, isHeld: () => true } });
    await second.pass(5_000);
    expect(await second.incidents()).toEqual([expect.stringMatching(/^node_returned n2 \d+$/)]);
    await second.end();
  });

  test("remembers the latest hundred of what is over", async () => {
    const { pass, desk, end } = await open();
    for (let n = 0; n < 105; n += 1) {
      await desk.start("audit", null);
      await pass(2_000);
    }
    const { jobs } = await desk.status();
    expect([jobs.length, jobs[0]?.id === "id-1"]).toEqual([100, false]);
    await end();
  });
});

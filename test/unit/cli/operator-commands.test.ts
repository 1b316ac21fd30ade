import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestRest, type TestRest } from "../../support/rest-server.ts";
import { createTestDesk, sampleJob, type TestDesk } from "../../support/test-desk.ts";
import { run } from "./run.ts";

let rest: TestRest;
let desk: TestDesk;
beforeAll(async () => {
  desk = createTestDesk();
  rest = await startTestRest({}, { desk });
});
beforeEach(() => {
  desk.calls.length = 0;
});
afterAll(() => rest.close());

const kintsugi = (...operands: string[]) => run([...operands, "--url", rest.url]);

/** Answers for every job as if it had just ended so. */
function endJobs(changes: Parameters<typeof sampleJob>[0]): void {
  const { jobs } = desk;
  desk.job = (id) => {
    const { kind, node } = jobs.find((job) => job.id === id) ?? sampleJob();
    return Promise.resolve(sampleJob({ kind, node, id, endedAtMs: 1_750_000_002_500, ...changes }));
  };
}

describe("kintsugi heal status", () => {
  test("draws tracks, jobs and incidents", async () => {
    const { exitCode, text } = await kintsugi("heal", "status");
    expect(exitCode).toBe(0);
    expect(text).toContain("healer-1 leads, replication lag 4, work waiting 0 urgent, 3 soon, 1 some time");
    expect(text).toMatch(/● scrub +n1 +busy +512 B of 2\.0 KiB \(25 %\) +8\.0 MiB\/s/);
    expect(text).toContain("node returned n2  mended in 4.0 s");
    expect(text).toContain("node returned n2  being mended");
  });

  test("--json gives all of it", async () => {
    expect(JSON.parse((await kintsugi("heal", "status", "--json")).text)).toMatchObject({ replicationLag: 4 });
  });
});

describe("kintsugi heal audit, collect, balance, scrub, compact", () => {
  test.each(["audit", "collect", "balance", "scrub", "compact"])(
    "%s asks for the job and tells its id",
    async (kind) => {
      const { exitCode, text } = await kintsugi("heal", kind, "--node", "n2");
      expect([exitCode, desk.calls]).toEqual([0, [`start ${kind} n2`]]);
      expect(text).toMatch(new RegExp(`^${kind} of n2 {2}running: 1 of 2 audits, orphans 3 {2}\\(job job-\\d+\\)\n$`));
    },
  );

  test("--wait watches it to its end", async () => {
    endJobs({ state: "done" });
    const { exitCode, text } = await kintsugi("heal", "audit", "--wait");
    expect([exitCode, text]).toEqual([0, "audit  done: orphans 3, took 2.5 s\n"]);
  });

  test("fails as the job does", async () => {
    endJobs({ state: "failed", failure: "the node is away", result: {} });
    const { exitCode, text } = await kintsugi("heal", "node", "n3");
    expect([exitCode, text]).toEqual([1, "recovery of n3  failed: the node is away, took 2.5 s\n"]);
    expect(desk.calls).toEqual(["start recover_node n3"]);
  });

  test("--json gives the job; an unknown node is one", async () => {
    endJobs({ state: "done" });
    const { text } = await kintsugi("heal", "node", "n1", "--json");
    expect(JSON.parse(text)).toMatchObject({ kind: "recover_node", node: "n1", state: "done" });
    expect(await kintsugi("heal", "node", "n9")).toMatchObject({ exitCode: 3 });
  });
});

describe("kintsugi heal pause, resume, throttle", () => {
  test("say it to the track", async () => {
    expect(await kintsugi("heal", "pause", "scrub")).toMatchObject({ exitCode: 0, text: "scrub is paused\n" });
    expect(await kintsugi("heal", "resume", "scrub")).toMatchObject({ text: "scrub goes on\n" });
    expect(await kintsugi("heal", "throttle", "repair", "16MiB")).toMatchObject({ exitCode: 0 });
    expect(await kintsugi("heal", "throttle", "repair", "default")).toMatchObject({ exitCode: 0 });
    expect(desk.calls).toEqual([
      'control scrub {"paused":true}',
      'control scrub {"paused":false}',
      'control repair {"bytesPerSecond":16777216}',
      'control repair {"bytesPerSecond":null}',
    ]);
  });

  test.each([
    ["pause", "walk"],
    ["throttle", "repair", "fast"],
    ["throttle", "repair", "-1"],
  ])("refuse %s %s", async (...operands) => {
    expect(await kintsugi("heal", ...operands)).toMatchObject({ exitCode: 2 });
    expect(desk.calls).toEqual([]);
  });
});

describe("kintsugi node", () => {
  test("lists, drains, takes that back and removes", async () => {
    const { text } = await kintsugi("node", "list");
    expect(text).toMatch(/^NODE +STATE.*\nn1 +live +r\/z +1 +2 +300 B/);
    expect(await kintsugi("node", "drain", "n2")).toMatchObject({ exitCode: 0 });
    expect(await kintsugi("node", "undrain", "n2")).toMatchObject({ exitCode: 0 });
    expect(await kintsugi("node", "remove", "n2")).toMatchObject({ exitCode: 0, text: "n2 is removed\n" });
    expect(desk.calls).toEqual(["drain n2", "undrain n2", "remove n2"]);
  });

  test("says what stands against it", async () => {
    const refused = await kintsugi("node", "remove", "n1");
    expect([refused.exitCode, refused.stderr]).toEqual([4, expect.stringContaining("node_in_use")]);
    expect(await kintsugi("node", "drain", "n9")).toMatchObject({ exitCode: 3 });
  });
});

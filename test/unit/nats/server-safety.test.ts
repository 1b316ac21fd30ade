import { describe, expect, test } from "vitest";
import type { ServerFacts, ServersSeen } from "../../../src/nats/server-safety.ts";
import { findServerProblems } from "../../../src/nats/server-safety.ts";

const server = (name: string, given: Partial<ServerFacts> = {}): ServerFacts => ({
  name,
  version: "2.15.1",
  syncAlways: true,
  hasLeader: true,
  clusterSize: 3,
  peers: ["n1", "n2", "n3"].filter((peer) => peer !== name),
  ...given,
});

const SAFE: ServersSeen = {
  servers: [server("n1"), server("n2"), server("n3")],
  silent: [],
  connected: { name: "n1", version: "2.15.1" },
  asyncStreams: [],
};

function problemsOf(given: Partial<ServersSeen>, streamReplicas = 3) {
  return findServerProblems({ ...SAFE, ...given }, streamReplicas);
}

describe("findServerProblems()", () => {
  test("finds nothing wrong with three new servers that sync always", () => {
    expect(problemsOf({})).toEqual([]);
  });

  test("refuses versions below the minimum, also of the server that is connected", () => {
    for (const version of ["2.12.3", "2.11.99", "1.99.9", "unknown", ""]) {
      const [problem, ...others] = problemsOf({ servers: [server("n1"), server("n2", { version }), server("n3")] });
      expect(problem).toMatchObject({
        kind: "unsafe",
        text: expect.stringMatching(/n2 has version .*2\.12\.4 or newer/),
      });
      expect(others).toEqual([]);
    }
    expect(problemsOf({ servers: [], silent: [], connected: { name: "n1", version: "2.9.10" } })[0]?.text).toContain(
      "n1 has version 2.9.10",
    );
  });

  test("takes the minimum and what is above", () => {
    for (const version of ["2.12.4", "2.12.10", "2.13.0-preview", "v2.15.1", "3.0.0"]) {
      expect(problemsOf({ servers: [server("n1"), server("n2"), server("n3", { version })] })).toEqual([]);
    }
  });

  test("names each server that acknowledges before it syncs", () => {
    const servers = [server("n1"), server("n2", { syncAlways: false }), server("n3", { syncAlways: false })];
    const texts = problemsOf({ servers }).map(({ kind, text }) => `${kind}: ${text}`);
    expect(texts).toEqual([
      expect.stringMatching(/^unsafe: NATS server n2 .*sync_interval: always/),
      expect.stringMatching(/^unsafe: NATS server n3 .*sync_interval: always/),
    ]);
  });

  test("refuses a server that runs and could not be looked at, and says what was met", () => {
    const silent = [{ url: "http://10.0.0.3:8222", reason: "connect ECONNREFUSED" }];
    const [problem] = problemsOf({ servers: [server("n1"), server("n2")], silent });
    expect(problem).toMatchObject({ kind: "unsafe", mayPass: true });
    expect(problem?.text).toMatch(/n3 .*http:\/\/10\.0\.0\.3:8222: connect ECONNREFUSED.*nats\.monitorUrls/);
  });

  test("passes over a server that is off: a process must be able to start then", () => {
    const servers = [server("n1", { peers: ["n2"] }), server("n2", { peers: ["n1"] })];
    expect(problemsOf({ servers, silent: [{ url: "http://10.0.0.3:8222", reason: "refused" }] })).toEqual([]);
  });

  test("refuses when the monitoring of nobody was reached", () => {
    const [problem] = problemsOf({ servers: [], silent: [{ url: "http://10.0.0.1:8222", reason: "refused" }] });
    expect(problem?.text).toContain("Cannot tell whether NATS server n1 syncs");
  });

  test("refuses servers without JetStream, whatever is allowed", () => {
    const off = { syncAlways: null, clusterSize: 1, peers: [] };
    expect(problemsOf({ servers: [server("n1", off)] })).toEqual([
      { kind: "unusable", mayPass: true, text: expect.stringContaining("JetStream is off on NATS server n1") },
    ]);
    // One without is no harm beside three that have it.
    const servers = [server("n1", off), server("n2"), server("n3"), server("n4")];
    expect(problemsOf({ servers })).toEqual([]);
  });

  test("refuses fewer servers than copies of a stream", () => {
    const alone = [server("n1", { clusterSize: 1, peers: [] })];
    expect(problemsOf({ servers: alone }, 1)).toEqual([]);
    expect(problemsOf({ servers: alone }, 3)).toEqual([
      { kind: "unusable", mayPass: true, text: expect.stringMatching(/1 NATS server .*too few for 3 copies/) },
    ]);
    expect(problemsOf({}, 5)[0]?.text).toMatch(/3 NATS servers .*too few for 5 copies/);
  });

  test("waits for a leader of JetStream", () => {
    const servers = [server("n1", { hasLeader: false, peers: [] })];
    expect(problemsOf({ servers })).toEqual([
      { kind: "unusable", mayPass: true, text: expect.stringContaining("no leader") },
    ]);
  });

  test("refuses streams that acknowledge before they store", () => {
    expect(problemsOf({ asyncStreams: ["S"] })).toEqual([
      { kind: "unsafe", mayPass: false, text: expect.stringContaining("Stream S") },
    ]);
    expect(problemsOf({ asyncStreams: null })).toEqual([]);
  });
});

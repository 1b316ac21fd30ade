import { describe, expect, test } from "vitest";
import type { NodeName } from "../../src/domain/ids.ts";
import type { NodeInfo, NodeState } from "../../src/domain/node-info.ts";
import type { Membership } from "../../src/membership/membership.ts";

/** A membership that knows exactly the nodes of `SAMPLE_NODES`, all live. */
export type MembershipHarness = AsyncDisposable & {
  readonly membership: Membership;
  /** Closes the membership and opens it anew over the same nodes. */
  reopen(): Promise<void>;
};

export const SAMPLE_NODES: readonly NodeInfo[] = ["n1", "n2", "n3"].map((name, n) => ({
  name: name as NodeName,
  state: "live",
  region: "eu",
  zone: `z${n % 2}`,
  weight: n + 1,
}));

/** What every `Membership` promises. Run by each adapter. */
export function describeMembership(name: string, open: () => Promise<MembershipHarness>): void {
  describe(name, () => {
    test("snapshot() gives all nodes in a stable order, also after reopening", async () => {
      await using harness = await open();
      expect(harness.membership.snapshot()).toEqual(SAMPLE_NODES);
      harness.membership.report(SAMPLE_NODES[1]!.name, "full");
      expect(namesOf(harness.membership.snapshot())).toEqual(["n1", "n2", "n3"]);
      await harness.reopen();
      expect(namesOf(harness.membership.snapshot())).toEqual(["n1", "n2", "n3"]);
    });

    test("snapshot() is immutable: later reports do not change one taken before", async () => {
      await using harness = await open();
      const before = harness.membership.snapshot();
      harness.membership.report(SAMPLE_NODES[0]!.name, "down");
      expect(statesOf(before)).toEqual(["live", "live", "live"]);
      expect(() => (before as NodeInfo[]).pop()).toThrow(TypeError);
      expect(() => Object.assign(before[0]!, { state: "down" })).toThrow(TypeError);
    });

    test("report() changes the state of the one node, seen by the next snapshot", async () => {
      await using harness = await open();
      for (const state of ["full", "fenced", "down", "live"] as const) {
        harness.membership.report(SAMPLE_NODES[1]!.name, state);
        expect(statesOf(harness.membership.snapshot())).toEqual(["live", state, "live"]);
      }
    });

    test("report() of an unknown node changes nothing", async () => {
      await using harness = await open();
      harness.membership.report("nobody" as NodeName, "down");
      expect(harness.membership.snapshot()).toEqual(SAMPLE_NODES);
    });

    test("watch() tells of each change and not of reports that change nothing", async () => {
      await using harness = await open();
      const told: NodeState[][] = [];
      harness.membership.watch((nodes) => told.push(statesOf(nodes)));
      harness.membership.report(SAMPLE_NODES[0]!.name, "live");
      harness.membership.report(SAMPLE_NODES[0]!.name, "down");
      harness.membership.report(SAMPLE_NODES[0]!.name, "down");
      harness.membership.report(SAMPLE_NODES[0]!.name, "live");
      expect(told).toEqual([
        ["down", "live", "live"],
        ["live", "live", "live"],
      ]);
    });

    test("watch() ends when its function is called", async () => {
      await using harness = await open();
      let isToldCount = 0;
      const stop = harness.membership.watch(() => (isToldCount += 1));
      stop();
      harness.membership.report(SAMPLE_NODES[0]!.name, "down");
      expect(isToldCount).toBe(0);
    });
  });
}

function namesOf(nodes: readonly NodeInfo[]): string[] {
  return nodes.map((node) => node.name);
}

function statesOf(nodes: readonly NodeInfo[]): NodeState[] {
  return nodes.map((node) => node.state);
}

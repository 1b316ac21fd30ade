import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeName } from "../../src/domain/ids.ts";
import { joinNatsMembership } from "../../src/membership/nats-membership.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { memberSelf } from "../support/member-self.ts";
import { openTestLink } from "../support/test-link.ts";
import type { MembershipHarness } from "./membership.contract.ts";
import { describeMembership, SAMPLE_NODES } from "./membership.contract.ts";

for (const servers of [1, 3] as const) {
  describe(`${servers} servers`, () => {
    let nats: NatsCluster;
    beforeAll(async () => void (nats = await startNats({ servers })));
    afterAll(() => nats[Symbol.asyncDispose]());

    let count = 0;
    describeMembership("NATS membership", async () => {
      const clusterName = `members-${(count += 1)}`;
      const open = new AsyncDisposableStack();
      const join = async (self: Parameters<typeof memberSelf>[0]) => {
        const link = open.adopt(await openTestLink(nats, { clusterName }), (opened) => opened.close());
        return open.adopt(await joinNatsMembership(link, memberSelf(self)), (joined) => joined.close());
      };
      for (const { name, region, zone, weight } of SAMPLE_NODES) {
        await join({ role: "node", name, region, zone, weight });
      }
      let membership = await join({ role: "gateway", name: "g1" });
      return {
        get membership() {
          return membership;
        },
        async reopen() {
          await membership.close();
          membership = await join({ role: "gateway", name: "g1" });
        },
        [Symbol.asyncDispose]: () => open.disposeAsync(),
      } satisfies MembershipHarness;
    });

    test("a node that was removed is forgotten by all, told so, and never taken in again", async () => {
      await using open = new AsyncDisposableStack();
      const join = async (self: Parameters<typeof memberSelf>[0]) => {
        const link = open.adopt(await openTestLink(nats, { clusterName: "removals" }), (opened) => opened.close());
        return open.adopt(await joinNatsMembership(link, memberSelf(self)), (joined) => joined.close());
      };
      const gateway = await join({ role: "gateway", name: "g1" });
      const node = await join({ role: "node", name: "n1" });
      await join({ role: "node", name: "n2" });
      const names = () => gateway.snapshot().map(({ name }) => name);
      await expect.poll(names).toEqual(["n1", "n2"]);

      await gateway.removeNode("n1" as NodeName);
      await expect(node.lost).resolves.toMatchObject({ code: "node_removed" });
      await expect.poll(names).toEqual(["n2"]);
      await expect(join({ role: "node", name: "n1" })).rejects.toMatchObject({ code: "node_removed" });
      const later = await join({ role: "gateway", name: "g2" });
      expect(later.snapshot().map(({ name }) => name)).toEqual(["n2"]);
      await expect(gateway.removeNode("n3" as NodeName)).rejects.toMatchObject({ code: "parameter_invalid" });
    });
  });
}

import { afterAll, beforeAll, describe } from "vitest";
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
  });
}

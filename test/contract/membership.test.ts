import { createStaticMembership } from "../../src/membership/static-membership.ts";
import type { MembershipHarness } from "./membership.contract.ts";
import { SAMPLE_NODES, describeMembership } from "./membership.contract.ts";

describeMembership("static membership", async () => {
  let membership = createStaticMembership(SAMPLE_NODES);
  return {
    get membership() {
      return membership;
    },
    async reopen() {
      await membership.close();
      membership = createStaticMembership(SAMPLE_NODES);
    },
    [Symbol.asyncDispose]: () => membership.close(),
  } satisfies MembershipHarness;
});

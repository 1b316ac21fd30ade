import type { MemberSelf } from "../../src/membership/nats-membership.ts";

/** A process that joins a cluster; what a test does not say is as good as any. */
export function memberSelf(given: Partial<MemberSelf> & Pick<MemberSelf, "role" | "name">): MemberSelf {
  return {
    identity: `directory of ${given.name}`,
    address: null,
    region: "local",
    zone: "local",
    weight: 1,
    version: "1.0.0",
    describe: () => ({ state: "live", load: {} }),
    ...given,
  };
}

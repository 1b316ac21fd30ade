import { afterAll, beforeAll, describe } from "vitest";
import { openNatsLease } from "../../src/lease/nats-lease.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";
import type { LeaseHarness } from "./lease.contract.ts";
import { describeLease } from "./lease.contract.ts";

const TTL_MS = 900;

for (const servers of [1, 3] as const) {
  describe(`${servers} servers`, () => {
    let nats: NatsCluster;
    beforeAll(async () => void (nats = await startNats({ servers })));
    afterAll(() => nats[Symbol.asyncDispose]());

    let count = 0;
    const open = async () => {
      const clusterName = `lease-${(count += 1)}`;
      const openLease = async () => {
        const link = await openTestLink(nats, { clusterName });
        return { link, lease: await openNatsLease(link, { ttlMs: TTL_MS }) };
      };
      const close = async ({ link, lease }: Awaited<ReturnType<typeof openLease>>) => {
        await lease.close();
        await link.close();
      };
      const other = await openLease();
      let opened = await openLease();
      return {
        get lease() {
          return opened.lease;
        },
        other: other.lease,
        async reopen() {
          await close(opened);
          opened = await openLease();
        },
        crash: () => opened.link.close(),
        async [Symbol.asyncDispose]() {
          await close(opened);
          await close(other);
        },
      } satisfies LeaseHarness;
    };
    describeLease("NATS lease", open, { expires: true });
  });
}

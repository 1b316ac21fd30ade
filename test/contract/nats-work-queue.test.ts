import { afterAll, beforeAll, describe } from "vitest";
import { openNatsWorkQueue } from "../../src/work/nats-work-queue.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";
import { CONTRACT_LEASE_MS, CONTRACT_WAITING_MAX, describeWorkQueue } from "./work-queue.contract.ts";

for (const servers of [1, 3] as const) {
  describe(`${servers} servers`, () => {
    let nats: NatsCluster;
    beforeAll(async () => void (nats = await startNats({ servers })));
    afterAll(() => nats[Symbol.asyncDispose]());

    let count = 0;
    describeWorkQueue("JetStream", async () => {
      const clusterName = `work-${(count += 1)}`;
      const openQueue = async () => {
        const link = await openTestLink(nats, { clusterName });
        const options = { leaseMs: CONTRACT_LEASE_MS, waitingMax: CONTRACT_WAITING_MAX };
        return { link, queue: await openNatsWorkQueue(link, options) };
      };
      const [one, other] = [await openQueue(), await openQueue()];
      return {
        queue: one.queue,
        other: other.queue,
        lags: servers > 1,
        async [Symbol.asyncDispose]() {
          for (const { link, queue } of [one, other]) {
            await queue.close();
            await link.close();
          }
        },
      };
    });
  });
}

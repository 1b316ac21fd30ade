import { afterAll, beforeAll, describe } from "vitest";
import { openNatsWal } from "../../src/wal/nats-wal.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { openTestLink } from "../support/test-link.ts";
import type { WalHarness } from "./wal.contract.ts";
import { describeWal } from "./wal.contract.ts";

for (const servers of [1, 3] as const) {
  describe(`${servers} servers`, () => {
    let nats: NatsCluster;
    beforeAll(async () => void (nats = await startNats({ servers })));
    afterAll(() => nats[Symbol.asyncDispose]());

    let count = 0;
    describeWal("NATS log", async () => {
      const clusterName = `wal-${(count += 1)}`;
      const openWal = async () => {
        const link = await openTestLink(nats, { clusterName });
        return { link, wal: await openNatsWal(link, { registry: null }) };
      };
      let opened = await openWal();
      const close = async () => {
        await opened.wal.close();
        await opened.link.close();
      };
      return {
        get wal() {
          return opened.wal;
        },
        // Another process would have a connection of its own.
        async reopen() {
          await close();
          opened = await openWal();
        },
        [Symbol.asyncDispose]: close,
      } satisfies WalHarness;
    });
  });
}

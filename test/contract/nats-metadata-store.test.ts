import { afterAll, beforeAll, describe } from "vitest";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { makeNatsMetadata } from "../support/nats-metadata.ts";
import type { MetadataStoreHarness } from "./metadata-store.contract.ts";
import { describeMetadataStore } from "./metadata-store.contract.ts";

describe.each([1, 3] as const)("on %d servers", (servers) => {
  let nats: NatsCluster;
  beforeAll(async () => {
    nats = await startNats({ servers });
  });
  afterAll(async () => {
    await nats[Symbol.asyncDispose]();
  });

  describeMetadataStore("NATS metadata store", async () => {
    const metadata = await makeNatsMetadata(nats);
    const opened = await metadata.open();
    return {
      get store() {
        return opened.store;
      },
      reopen: () => opened.reopen(),
      [Symbol.asyncDispose]: () => metadata[Symbol.asyncDispose](),
    } satisfies MetadataStoreHarness;
  });
});

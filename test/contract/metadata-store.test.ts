import { systemClock } from "../../src/lib/clock.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { MemoryRecords, createMemoryMetadataStore } from "../../src/metadata/memory-metadata-store.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import type { MetadataStoreHarness } from "./metadata-store.contract.ts";
import { describeMetadataStore } from "./metadata-store.contract.ts";

describeMetadataStore("memory metadata store", async () => {
  const records = new MemoryRecords();
  let store = createMemoryMetadataStore(records);
  return {
    get store() {
      return store;
    },
    async reopen() {
      await store.close();
      store = createMemoryMetadataStore(records);
    },
    [Symbol.asyncDispose]: () => store.close(),
  } satisfies MetadataStoreHarness;
});

describeMetadataStore("LMDB metadata store", async () => {
  const directory = await makeLmdbDirectory();
  const openStore = async () => openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
  let store = await openStore();
  return {
    get store() {
      return store;
    },
    async reopen() {
      await store.close();
      store = await openStore();
    },
    async [Symbol.asyncDispose]() {
      await store.close();
      await directory[Symbol.asyncDispose]();
    },
  } satisfies MetadataStoreHarness;
});

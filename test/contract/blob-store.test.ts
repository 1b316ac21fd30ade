import { MemoryBlobStore } from "../../src/blob/memory-blob-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { makeBlobDirectory } from "../support/blob-directory.ts";
import { TEST_NODE } from "../support/blobs.ts";
import type { BlobStoreHarness } from "./blob-store.contract.ts";
import { describeBlobStore } from "./blob-store.contract.ts";

describeBlobStore("memory blobs", async () => {
  const store = new MemoryBlobStore(TEST_NODE, systemClock);
  return { store, [Symbol.asyncDispose]: () => store.close() } satisfies BlobStoreHarness;
});

describeBlobStore("LMDB volumes", async () => {
  const directory = await makeBlobDirectory();
  const store = await directory.open();
  return { store, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() } satisfies BlobStoreHarness;
});

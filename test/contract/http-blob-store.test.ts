import { startServedNode } from "../support/node-plane.ts";
import type { BlobStoreHarness } from "./blob-store.contract.ts";
import { describeBlobStore } from "./blob-store.contract.ts";

describeBlobStore("LMDB volumes behind HTTP", async () => {
  const node = await startServedNode();
  return { store: node.remote, [Symbol.asyncDispose]: () => node[Symbol.asyncDispose]() } satisfies BlobStoreHarness;
});

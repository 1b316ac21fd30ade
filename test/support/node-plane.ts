/** A real data plane in front of a real node, and clients of it. */
import { Registry } from "prom-client";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { createHttpBlobStore, type HttpBlobStoreOptions } from "../../src/blob/http-blob-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { startNodeServer, type NodeServerParts, type NodeServerSettings } from "../../src/node/node-server.ts";
import { makeBlobDirectory, type BlobDirectory } from "./blob-directory.ts";
import { TEST_NODE } from "./blobs.ts";

export const TEST_SECRET = "the secret of a cluster that only tests know";

export type NodePlane = AsyncDisposable & {
  readonly url: string;
  readonly registry: Registry;
  /** Broken invariants that the server met. */
  readonly bugs: Error[];
  close(): Promise<void>;
};

/** The server alone; the store is the caller's. */
export async function serveStore(
  store: BlobStore,
  options: Partial<NodeServerParts> & Partial<NodeServerSettings> = {},
): Promise<NodePlane> {
  const registry = new Registry();
  const bugs: Error[] = [];
  const server = await startNodeServer(
    {
      clock: systemClock,
      random: systemRandom,
      logger: silentLogger,
      registry,
      store,
      clusterSecret: TEST_SECRET,
      version: "test",
      onBug: (bug) => bugs.push(bug),
      ...options,
    },
    { host: "127.0.0.1", port: 0, connectionsMax: 512, drainMs: 2_000, ...options },
  );
  const url = `http://127.0.0.1:${server.port}`;
  return { url, registry, bugs, close: () => server.close(), [Symbol.asyncDispose]: () => server.close() };
}

export type NodeClient = BlobStore & AsyncDisposable;

export function connectTo(addressOf: () => string | null, options: Partial<HttpBlobStoreOptions> = {}): NodeClient {
  const store = createHttpBlobStore({
    node: TEST_NODE,
    addressOf,
    clusterSecret: TEST_SECRET,
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    registry: new Registry(),
    ...options,
  });
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}

export type ServedNode = AsyncDisposable & {
  readonly directory: BlobDirectory;
  readonly local: BlobStore;
  readonly plane: NodePlane;
  readonly remote: NodeClient;
};

/** LMDB volumes, their server and one client. */
export async function startServedNode(
  options: Partial<NodeServerParts> & Partial<NodeServerSettings> = {},
  clientOptions: Partial<HttpBlobStoreOptions> = {},
): Promise<ServedNode> {
  const directory = await makeBlobDirectory();
  const local = await directory.open();
  const plane = await serveStore(local, options);
  const remote = connectTo(() => plane.url, clientOptions);
  return {
    ...{ directory, local, plane, remote },
    async [Symbol.asyncDispose]() {
      await remote.close();
      await plane.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

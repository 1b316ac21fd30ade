/** A real data plane in front of a real node, and clients of it. */
import { Registry } from "prom-client";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { createHttpBlobStore, type HttpBlobStoreOptions } from "../../src/blob/http-blob-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { startNodeServer, type NodeServerParts, type NodeServerSettings } from "../../src/node/node-server.ts";
import { makeBlobDirectory, type BlobDirectory } from "./blob-directory.ts";
import { soon, TEST_NODE, WAIT_MS } from "./blobs.ts";
import type { BlobId } from "../../src/domain/ids.ts";

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

/** The store of `local` with some methods of the test's own. */
export function withMethods(local: BlobStore, methods: Partial<BlobStore>): BlobStore {
  const all: Partial<BlobStore> = { node: local.node };
  for (const name of [
    "state",
    "put",
    "openWriter",
    "readCells",
    "describe",
    "list",
    "delete",
    "verify",
    "usage",
    "close",
  ]) {
    const method = name as Exclude<keyof BlobStore, "node">;
    Object.assign(all, {
      [method]: (...args: unknown[]) => Reflect.apply(local[method] as () => unknown, local, args),
    });
  }
  return Object.assign(all as BlobStore, methods);
}

export async function valueOf(registry: Registry, name: string, labels: Record<string, string>): Promise<number> {
  const metric = await registry.getSingleMetric(name)?.get();
  const matches = (metric?.values ?? []).filter((value) =>
    Object.entries(labels).every(([label, wanted]) => (value.labels as Record<string, unknown>)[label] === wanted),
  );
  return matches.reduce((sum, { value }) => sum + value, 0);
}

/** Resolves when `read` has given the same number for a while: nothing moves any more. */
export async function untilStill(read: () => number): Promise<void> {
  for (let last = -1, same = 0; same < 10;) {
    await systemClock.sleep(20);
    same = read() === last ? same + 1 : 0;
    last = read();
  }
}

/** Resolves when nobody writes this blob any more. */
export async function untilOpen(store: BlobStore, id: BlobId): Promise<void> {
  for (;;) {
    const writer = await store.openWriter(id, WAIT_MS).catch(() => null);
    if (writer !== null) return await writer.abort();
    await systemClock.sleep(10);
  }
}

export async function untilStored(store: BlobStore, id: BlobId): Promise<void> {
  while ((await store.describe(id, soon())) === null) await systemClock.sleep(5);
}

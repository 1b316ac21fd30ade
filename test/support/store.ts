import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config.ts";
import type { EmbeddedStore } from "../../src/compose/embedded.ts";
import { openEmbeddedStore } from "../../src/compose/embedded.ts";
import type { BlobId, BucketName, NodeName, ObjectKey } from "../../src/domain/ids.ts";
import { blobSetsOf, placedBlobsOf } from "../../src/domain/manifest.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { FaultPoints } from "../../src/lib/fault-points.ts";
import { noFaultPoints } from "../../src/lib/fault-points.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { deleteObject } from "../../src/object/delete.ts";
import { readFields } from "../../src/object/fields.ts";
import { getObject } from "../../src/object/get.ts";
import { ObjectPatcher } from "../../src/object/patch.ts";
import { putObject } from "../../src/object/put.ts";
import type { Body, GetResult, Preconditions, PutRequest } from "../../src/object/requests.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import { undeleteObject } from "../../src/object/undelete.ts";

export const BUCKET = "default" as BucketName;
export const keyOf = (text: string) => text as ObjectKey;

/** A real embedded store on LMDB in a folder of its own. */
export type TestStore = AsyncDisposable & {
  readonly dir: string;
  readonly store: EmbeddedStore;
  readonly patcher: ObjectPatcher;
  put(key: string, body: Uint8Array | Body, options?: Partial<PutRequest>): ReturnType<typeof putObject>;
  get(key: string): Promise<Buffer | null>;
  patch(key: string, patch: string): ReturnType<ObjectPatcher["patch"]>;
  fields(key: string, ...fields: string[]): Promise<{ json: string; fromHotPart: boolean }>;
  remove(key: string): Promise<boolean>;
  undelete(key: string, preconditions?: Preconditions): ReturnType<typeof undeleteObject>;
  /** Closes and opens the store on the same folder. */
  reopen(): Promise<void>;
  /** Every blob on every node. */
  blobsOnNodes(): Promise<{ id: BlobId; node: NodeName }[]>;
  /** Blobs on nodes that no record refers to. */
  orphans(): Promise<string[]>;
  openIntents(): Promise<number>;
};

export type TestStoreOptions = {
  readonly flags?: Record<string, string>;
  readonly dir?: string;
  readonly faults?: FaultPoints;
};

/** Without a cache: what is read is to show what the nodes hold. */
const DEFAULTS = { threads: "1", "storage.volumeBytesMax": "256MiB", "cache.bytesMax": "0" };

export async function openTestStore(options: TestStoreOptions = {}): Promise<TestStore> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "kintsugi-test-")));
  const config = loadConfig({
    configFile: null,
    flags: Object.entries({ ...DEFAULTS, dataDir: dir, ...options.flags }).map(([path, value]) => ({
      path,
      value,
      flag: path,
    })),
    env: {},
    readFile: () => null,
    cores: 2,
  });
  const system = {
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    faults: options.faults ?? noFaultPoints,
  };
  let store = await openEmbeddedStore(config, system);
  let patcher = new ObjectPatcher(store.deps);
  const soon = () => deadlineIn(systemClock, 10_000);

  const self: TestStore = {
    dir,
    get store() {
      return store;
    },
    get patcher() {
      return patcher;
    },
    put: (key, body, more = {}) => putObject(store.deps, putRequest(key, body, more)),
    async get(key) {
      const result = await getObject(store.deps, getRequest(key));
      return result.outcome === "found" ? await bytesOf(result) : null;
    },
    patch: (key, patch) =>
      patcher.patch({
        bucket: BUCKET,
        key: keyOf(key),
        patch: Buffer.from(patch),
        consistency: null,
        preconditions: NO_PRECONDITIONS,
      }),
    async fields(key, ...fields) {
      const result = await readFields(store.deps, {
        bucket: BUCKET,
        key: keyOf(key),
        fields,
        preconditions: NO_PRECONDITIONS,
      });
      if (result.outcome !== "found") throw new Error(result.outcome);
      return { json: Buffer.from(result.json).toString(), fromHotPart: result.fromHotPart };
    },
    remove: async (key) =>
      (await deleteObject(store.deps, { bucket: BUCKET, key: keyOf(key), preconditions: NO_PRECONDITIONS })).existed,
    undelete: (key, preconditions = NO_PRECONDITIONS) =>
      undeleteObject(store.deps, { bucket: BUCKET, key: keyOf(key), preconditions }),
    async reopen() {
      await store.close();
      store = await openEmbeddedStore(config, system);
      patcher = new ObjectPatcher(store.deps);
    },
    async blobsOnNodes() {
      const all: { id: BlobId; node: NodeName }[] = [];
      for (const [node, blobs] of store.deps.nodes) {
        for (const info of await blobs.list("", 100_000, soon())) all.push({ id: info.id, node });
      }
      return all;
    },
    async orphans() {
      const records = await store.deps.metadata.scan(null, 100_000, soon());
      const named = new Set(
        records
          .flatMap(({ record }) => blobSetsOf(record.manifest).flatMap(placedBlobsOf))
          .map((b) => `${b.id}@${b.node}`),
      );
      return (await self.blobsOnNodes()).map((b) => `${b.id}@${b.node}`).filter((name) => !named.has(name));
    },
    openIntents: async () => (await store.deps.wal.readOpen(0, 100_000, soon())).length,
    async [Symbol.asyncDispose]() {
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return self;
}

export function putRequest(key: string, body: Uint8Array | Body, more: Partial<PutRequest> = {}): PutRequest {
  return {
    bucket: BUCKET,
    key: keyOf(key),
    body: body instanceof Uint8Array ? { kind: "bytes", bytes: body } : body,
    strategy: null,
    consistency: null,
    attributes: { contentType: "application/octet-stream", userMetadata: {} },
    preconditions: NO_PRECONDITIONS,
    expectedSha256: null,
    expectedMd5: null,
    ...more,
  };
}

export function getRequest(key: string) {
  return { bucket: BUCKET, key: keyOf(key), range: null, ifRange: null, preconditions: NO_PRECONDITIONS };
}

export async function bytesOf(result: GetResult): Promise<Buffer> {
  if (result.outcome !== "found") throw new Error(`expected an object, met ${result.outcome}`);
  if (result.body.kind === "bytes") return Buffer.from(result.body.bytes);
  const chunks: Buffer[] = [];
  for await (const chunk of result.body.chunks) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** Bytes that look random and are the same for the same seed. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed | 1;
  for (let at = 0; at < length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

/** A body that arrives in chunks of the given sizes, over and over; the memory of each chunk is reused for the next. */
export function streamOf(bytes: Uint8Array, sizes: readonly number[], declared = true): Body {
  return {
    kind: "stream",
    sizeBytes: declared ? bytes.length : null,
    chunks: (async function* () {
      const memory = Buffer.alloc(Math.max(...sizes));
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const size = sizes[turn % sizes.length] as number;
        const part = bytes.subarray(at, at + size);
        memory.set(part);
        at += part.length;
        yield memory.subarray(0, part.length);
      }
    })(),
  };
}

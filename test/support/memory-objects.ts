/**
 * The object paths over a map in memory, for tests of the doors alone. It keeps what the real ones promise to a door:
 * preconditions, ranges, digests, sizes, streamed bodies in reused shared memory. Nothing is durable, nothing is split.
 */
import { createHash } from "node:crypto";
import { StoreError } from "../../src/domain/errors.ts";
import { createTxidSource, type Revision, type VersionId } from "../../src/domain/ids.ts";
import type { Receipt } from "../../src/domain/receipt.ts";
import type { StoredRecord } from "../../src/domain/record.ts";
import type { ObjectApi } from "../../src/gateway/object-api.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { BodyReader } from "../../src/object/body-reader.ts";
import { evaluateConditions, requireConditions } from "../../src/object/conditions.ts";
import type { Body, GetRequest, HeadResult, ObjectAddress, PutRequest } from "../../src/object/requests.ts";

type Entry = StoredRecord & { readonly bytes: Uint8Array };

export type MemoryObjectsOptions = {
  /** Bodies above this are given out as streams. */
  readonly streamedAbove?: number;
  /** Size of a streamed chunk. */
  readonly chunkBytes?: number;
  readonly objectBytesMax?: number;
};

export function createMemoryObjects(options: MemoryObjectsOptions = {}): ObjectApi {
  const { streamedAbove = 64 * 1_024, chunkBytes = 1_024 * 1_024, objectBytesMax = 2 ** 40 } = options;
  const entries = new Map<string, Entry>();
  const deleted = new Map<string, Entry>();
  const nextTxid = createTxidSource(systemClock, systemRandom);
  let revision = 0;
  const nameOf = ({ bucket, key }: ObjectAddress) => `${bucket}/${key}`;

  const commit = (request: Omit<PutRequest, "body" | "strategy" | "consistency">, bytes: Uint8Array): Receipt => {
    const digest = (algorithm: string) => createHash(algorithm).update(bytes).digest("hex");
    const sha256 = digest("sha256");
    const { expectedSha256, expectedMd5 } = request;
    if ((expectedSha256 ?? sha256) !== sha256 || (expectedMd5 !== null && expectedMd5 !== digest("md5"))) {
      throw new StoreError("digest_mismatch", "The body's digest is not the one announced");
    }
    const old = entries.get(nameOf(request)) ?? null;
    requireConditions(request.preconditions, old);
    const version = nextTxid() as string as VersionId;
    entries.set(nameOf(request), {
      revision: (revision += 1) as Revision,
      bytes,
      record: {
        ...request.attributes,
        ...{ state: "object", bucket: request.bucket, key: request.key, version, modifiedAtMs: systemClock.wallMs() },
        ...{ sizeBytes: bytes.length, etag: sha256.slice(0, 32), sha256, fencedTxids: [] },
        manifest: { strategy: "inline", bytes: new Uint8Array(0) },
      },
    });
    return {
      ...{ bucket: request.bucket, key: request.key, version, etag: sha256.slice(0, 32), sha256 },
      ...{ sizeBytes: bytes.length, strategy: "inline", created: old === null, nodes: [], blobsDurable: 0 },
      ...{ blobsPlanned: 0, tolerance: 0, dirty: false, nodeBytesWritten: 0 },
    };
  };

  const find = (
    request: ObjectAddress & Pick<GetRequest, "preconditions">,
  ): Exclude<HeadResult, { outcome: "found" }> | { outcome: "found"; stored: Entry } => {
    const entry = entries.get(nameOf(request));
    if (entry === undefined) return { outcome: "not_found" };
    const outcome = evaluateConditions(request.preconditions, entry, "read");
    if (outcome === "failed") throw new StoreError("precondition_failed", "The precondition does not hold");
    return { outcome: outcome === "proceed" ? "found" : "not_modified", stored: entry };
  };

  return {
    reserve: () => Promise.resolve({ release() {} }),
    async put(request) {
      requireConditions(request.preconditions, entries.get(nameOf(request)) ?? null);
      return commit(request, await readWhole(request.body, objectBytesMax));
    },
    async get(request) {
      const found = find(request);
      if (found.outcome !== "found") return found;
      const { bytes } = found.stored;
      const range =
        request.ifRange === null || request.ifRange === found.stored.record.etag ? rangeIn(request, bytes) : null;
      const wanted = range === null ? bytes : bytes.subarray(range.start, range.end);
      const body: Body =
        wanted.length <= streamedAbove
          ? { kind: "bytes", bytes: wanted }
          : { kind: "stream", sizeBytes: wanted.length, chunks: chunksOf(wanted, chunkBytes) };
      return { ...found, range, body };
    },
    head: (request) => Promise.resolve(find(request)),
    async readFields(request) {
      const found = find(request);
      if (found.outcome !== "found") return found;
      const document = documentOf(found.stored.bytes);
      const wanted = Object.entries(document).filter(([name]) => request.fields.includes(name));
      return { ...found, json: Buffer.from(JSON.stringify(Object.fromEntries(wanted))), fromHotPart: false };
    },
    async patch(request) {
      const entry = entries.get(nameOf(request));
      if (entry === undefined) throw new StoreError("object_not_found", "There is no object to patch");
      requireConditions(request.preconditions, entry);
      const merged = mergePatch(documentOf(entry.bytes), documentOf(request.patch));
      const attributes = entry.record;
      return commit(
        { ...request, attributes, expectedSha256: null, expectedMd5: null },
        Buffer.from(JSON.stringify(merged)),
      );
    },
    async delete(request) {
      requireConditions(request.preconditions, entries.get(nameOf(request)) ?? null);
      const entry = entries.get(nameOf(request));
      if (entry !== undefined) deleted.set(nameOf(request), entry);
      return { existed: entries.delete(nameOf(request)) };
    },
    async undelete(request) {
      const entry = deleted.get(nameOf(request));
      if (entries.has(nameOf(request))) throw new StoreError("not_deleted", "The object is there");
      if (entry === undefined) throw new StoreError("object_not_found", "There was no object of this name");
      deleted.delete(nameOf(request));
      const { record, bytes } = entry;
      return commit({ ...request, attributes: record, expectedSha256: null, expectedMd5: null }, bytes);
    },
    async list(bucket, { prefix, delimiter, after, limit }) {
      const sorted = [...entries.values()]
        .filter((entry) => entry.record.bucket === bucket && entry.record.key.startsWith(prefix))
        .sort((a, b) => Buffer.compare(Buffer.from(a.record.key), Buffer.from(b.record.key)));
      const page: { entries: StoredRecord[]; commonPrefixes: string[]; next: string | null } = {
        ...{ entries: [], commonPrefixes: [], next: null },
      };
      let last = after;
      for (const entry of sorted) {
        const at = delimiter === "" ? -1 : entry.record.key.indexOf(delimiter, prefix.length);
        const name = at === -1 ? entry.record.key : entry.record.key.slice(0, at + delimiter.length);
        if (Buffer.compare(Buffer.from(name), Buffer.from(last)) <= 0 || page.commonPrefixes.includes(name)) continue;
        if (page.entries.length + page.commonPrefixes.length === limit) {
          page.next = last;
          break;
        }
        if (at === -1) page.entries.push(entry);
        else page.commonPrefixes.push(name);
        last = name;
      }
      return page;
    },
  };
}

async function readWhole(body: Body, bytesMax: number): Promise<Uint8Array> {
  if (body.kind === "bytes") return body.bytes;
  const reader = new BodyReader(body, bytesMax);
  const parts: Uint8Array[] = [];
  while (!reader.ended) {
    const part = new Uint8Array(64 * 1_024);
    parts.push(part.subarray(0, await reader.fill(part)));
  }
  return Buffer.concat(parts);
}

function rangeIn({ range }: GetRequest, { length }: Uint8Array): { start: number; end: number } | null {
  if (range === null) return null;
  const start = "suffixBytes" in range ? Math.max(0, length - range.suffixBytes) : range.first;
  const end = "suffixBytes" in range || range.last === null ? length : Math.min(length, range.last + 1);
  if (start < end) return { start, end };
  throw new StoreError("range_invalid", "The range lies outside the object", { details: { sizeBytes: length } });
}

/** All chunks in the same shared memory, as the real paths give them: whoever keeps one keeps the wrong bytes. */
async function* chunksOf(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
  const memory = new Uint8Array(new SharedArrayBuffer(chunkBytes));
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = bytes.subarray(at, at + chunkBytes);
    memory.set(chunk);
    yield memory.subarray(0, chunk.length);
    memory.fill(0);
  }
}

function documentOf(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw new StoreError("json_invalid", "The document is no JSON", { details: { offset: 0 } });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new StoreError("json_not_object", "The document is no JSON object");
  }
  return value as Record<string, unknown>;
}

function mergePatch(target: Record<string, unknown>, patch: Record<string, unknown>): Record<string, unknown> {
  const merged = new Map(Object.entries(target));
  for (const [name, value] of Object.entries(patch)) {
    const old = merged.get(name);
    if (value === null) merged.delete(name);
    else if (isObject(value)) merged.set(name, mergePatch(isObject(old) ? old : {}, value));
    else merged.set(name, value);
  }
  return Object.fromEntries(merged);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

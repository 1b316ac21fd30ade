import { isStoreError, StoreError } from "../domain/errors.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { metadataDeadline } from "./commit-record.ts";
import { evaluateConditions, readable } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { readPackedCopy } from "./read-content.ts";
import { readDocument } from "./read-document.ts";
import type { Body, GetRequest, GetResult, HeadResult, ObjectAddress, Preconditions } from "./requests.ts";

/** How often a read starts over because the version it had found was replaced and freed meanwhile. */
const READ_ATTEMPTS_MAX = 4;

/**
 * Reads one object or a range of it. The first bytes are verified and at hand when this resolves, so that damage is
 * still an error and not a broken stream. The body must be iterated, or its iterator returned.
 * @throws {StoreError} `precondition_failed`, `range_invalid`, `object_damaged`, `metadata_unavailable`, `overloaded`
 */
export async function getObject(deps: ObjectDeps, request: GetRequest): Promise<GetResult> {
  for (let attempt = 1; ; attempt += 1) {
    const found = await findObject(deps, request);
    if (found.outcome !== "found") return found;
    const { record } = found.stored;
    // What is inside its record gains nothing by more copies.
    if (attempt === 1 && record.manifest.strategy !== "inline") deps.heat.note(record);
    const range = resolveRange(request, record);
    try {
      const body = await openBody(deps, found.stored, range?.start ?? 0, range?.end ?? record.sizeBytes);
      return { ...found, range, body };
    } catch (cause) {
      const replaced = isStoreError(cause, "object_damaged") && (await isReplaced(deps, found.stored));
      if (!replaced || attempt === READ_ATTEMPTS_MAX) throw cause;
    }
  }
}

/** The readable version of a key, if the conditions allow. @throws {StoreError} `precondition_failed` */
export async function findObject(
  deps: ObjectDeps,
  request: ObjectAddress & { readonly preconditions: Preconditions },
): Promise<HeadResult> {
  const stored = readable(await deps.metadata.get(request.bucket, request.key, metadataDeadline(deps)));
  if (stored === null) return { outcome: "not_found" };
  switch (evaluateConditions(request.preconditions, stored, "read")) {
    case "failed":
      throw new StoreError(
        "precondition_failed",
        `The precondition does not hold: the object's entity tag is "${stored.record.etag}"`,
      );
    case "not_modified":
      return { outcome: "not_modified", stored };
    case "proceed":
      return { outcome: "found", stored };
  }
}

async function isReplaced(deps: ObjectDeps, stored: StoredRecord): Promise<boolean> {
  const { bucket, key, version } = stored.record;
  const now = await deps.metadata.get(bucket, key, metadataDeadline(deps));
  return now?.record.version !== version;
}

/** @throws {StoreError} `range_invalid` when no byte of the content is in the range */
function resolveRange(request: GetRequest, record: ObjectRecord): { start: number; end: number } | null {
  const { range, ifRange } = request;
  if (range === null || (ifRange !== null && ifRange !== record.etag)) return null;
  const size = record.sizeBytes;
  const start = "suffixBytes" in range ? Math.max(0, size - range.suffixBytes) : range.first;
  const end = "suffixBytes" in range || range.last === null ? size : Math.min(size, range.last + 1);
  if (start < end) return { start, end };
  throw new StoreError("range_invalid", `The range lies outside the object, which has ${size} bytes`, {
    details: { sizeBytes: size },
  });
}

async function openBody(deps: ObjectDeps, stored: StoredRecord, start: number, end: number): Promise<Body> {
  const { manifest } = stored.record;
  if (start === end) return countedBytes(deps, new Uint8Array(0));
  if (manifest.strategy === "inline") return countedBytes(deps, manifest.bytes.subarray(start, end));
  if (manifest.strategy === "replication") {
    const copy = await readPackedCopy(deps, manifest.body);
    if (copy !== null) return countedBytes(deps, copy.subarray(start, end));
  }
  const unpin = deps.pins.pin(blobSetsOf(manifest));
  try {
    const source = readDocument(deps, stored, start, end);
    const first = await source.next();
    return { kind: "stream", sizeBytes: end - start, chunks: new BodyStream(deps, source, first, unpin) };
  } catch (cause) {
    unpin();
    throw cause;
  }
}

function countedBytes(deps: ObjectDeps, bytes: Uint8Array): Body {
  deps.metrics.contentBytes.inc({ direction: "out" }, bytes.length);
  return { kind: "bytes", bytes };
}

/** A body whose first chunk was read ahead. Unpins its blobs when it ends, fails or is given up. */
class BodyStream implements AsyncIterableIterator<Uint8Array> {
  readonly #deps: ObjectDeps;
  readonly #source: AsyncGenerator<Uint8Array, void, void>;
  readonly #unpin: () => void;
  #first: IteratorResult<Uint8Array, void> | null;

  constructor(
    deps: ObjectDeps,
    source: AsyncGenerator<Uint8Array, void, void>,
    first: IteratorResult<Uint8Array, void>,
    unpin: () => void,
  ) {
    this.#deps = deps;
    this.#source = source;
    this.#first = first;
    this.#unpin = unpin;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, void>> {
    try {
      const result = this.#first ?? (await this.#source.next());
      this.#first = null;
      if (result.done === true) this.#unpin();
      else this.#deps.metrics.contentBytes.inc({ direction: "out" }, result.value.length);
      return result;
    } catch (cause) {
      this.#unpin();
      throw cause;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, void>> {
    this.#unpin();
    await this.#source.return();
    return { done: true, value: undefined };
  }
}

import { isStoreError, StoreError } from "../domain/errors.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { metadataDeadline } from "./commit-record.ts";
import { evaluateConditions, readable } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { readPackedCopy } from "./read-content.ts";
import { readDocument } from "./read-document.ts";
import { blobSetNameOf } from "./read-pins.ts";
import type { Body, GetRequest, GetResult, HeadResult, ObjectAddress, Preconditions } from "./requests.ts";

/** How often a read starts over because what it had found was replaced or moved, and freed meanwhile. */
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
      if (!isStoreError(cause, "object_damaged") || attempt === READ_ATTEMPTS_MAX) throw cause;
      const now = await lookAgain(deps, found.stored);
      if (now !== null && isSameReading(now, found.stored)) throw cause;
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

async function lookAgain(deps: ObjectDeps, { record }: StoredRecord): Promise<StoredRecord | null> {
  return await deps.metadata.get(record.bucket, record.key, metadataDeadline(deps));
}

/** Whether a reader of `now` would find the same version in the same places. Healing moves blobs and keeps the version. */
function isSameReading(now: StoredRecord, before: StoredRecord): boolean {
  return now.record.version === before.record.version && placesOf(now) === placesOf(before);
}

function placesOf({ record }: StoredRecord): string {
  return blobSetsOf(record.manifest)
    .map((set) => `${blobSetNameOf(set)} ${set.nodes.join()}`)
    .join("\n");
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
    const chunks = new BodyStream(deps, stored, { start, end }, unpin);
    await chunks.readAhead();
    return { kind: "stream", sizeBytes: end - start, chunks };
  } catch (cause) {
    unpin();
    throw cause;
  }
}

function countedBytes(deps: ObjectDeps, bytes: Uint8Array): Body {
  deps.metrics.contentBytes.inc({ direction: "out" }, bytes.length);
  return { kind: "bytes", bytes };
}

/**
 * A body whose first chunk was read ahead. Unpins its blobs when it ends, fails or is given up. When its blobs were moved or
 * made anew on other nodes meanwhile, it goes on from there.
 */
class BodyStream implements AsyncIterableIterator<Uint8Array> {
  readonly #deps: ObjectDeps;
  readonly #end: number;
  readonly #unpin: () => void;
  #stored: StoredRecord;
  #source: AsyncGenerator<Uint8Array, void, void>;
  /** Where in the object the next chunk begins. */
  #offset: number;
  #first: IteratorResult<Uint8Array, void> | null = null;

  constructor(
    deps: ObjectDeps,
    stored: StoredRecord,
    { start, end }: { readonly start: number; readonly end: number },
    unpin: () => void,
  ) {
    this.#deps = deps;
    this.#stored = stored;
    this.#offset = start;
    this.#end = end;
    this.#unpin = unpin;
    this.#source = readDocument(deps, stored, start, end);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async readAhead(): Promise<void> {
    this.#first = await this.#source.next();
  }

  async next(): Promise<IteratorResult<Uint8Array, void>> {
    try {
      const result = this.#first ?? (await this.#read());
      this.#first = null;
      if (result.done === true) {
        this.#unpin();
        return result;
      }
      this.#offset += result.value.length;
      this.#deps.metrics.contentBytes.inc({ direction: "out" }, result.value.length);
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

  async #read(): Promise<IteratorResult<Uint8Array, void>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#source.next();
      } catch (cause) {
        if (!isStoreError(cause, "object_damaged") || attempt === READ_ATTEMPTS_MAX) throw cause;
        const now = await lookAgain(this.#deps, this.#stored);
        // Bytes of another version never follow those of this one; what has not moved is really damaged.
        if (now?.record.version !== this.#stored.record.version || isSameReading(now, this.#stored)) throw cause;
        this.#stored = now;
        this.#source = readDocument(this.#deps, now, this.#offset, this.#end);
      }
    }
  }
}

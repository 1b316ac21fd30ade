import { createHash } from "node:crypto";
import { StoreError } from "../domain/errors.ts";
import type { HotPart, Manifest } from "../domain/manifest.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import { LIMITS } from "../limits.ts";
import { assert } from "../lib/assert.ts";
import type { Piece } from "../placement/layout.ts";
import { piecesOf, restrictPieces } from "../placement/layout.ts";
import { commitRecord } from "./commit-record.ts";
import type { ObjectDeps } from "./deps.ts";
import { readContent } from "./read-content.ts";
import { reserveMemory } from "./reserve-memory.ts";

/** The bytes [start, end) of a version of any strategy. Each chunk is the consumer's until it asks for the next. */
export async function* readDocument(
  deps: ObjectDeps,
  stored: StoredRecord,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  const { manifest } = stored.record;
  switch (manifest.strategy) {
    case "inline":
      if (start < end) yield manifest.bytes.subarray(start, end);
      return;
    case "replication":
      yield* readContent(deps, { set: manifest.body, copy: null }, start, end);
      return;
    case "ec":
      yield* readContent(deps, { set: manifest.body, copy: manifest.copy ?? null }, start, end);
      return;
    case "field_hybrid": {
      const whole = start === 0 && end === stored.record.sizeBytes;
      const bytes = readHybrid(deps, manifest, start, end);
      yield* whole && stored.record.sha256 === null ? learnDigest(deps, stored, bytes) : bytes;
    }
  }
}

/** The hot part's bytes: from the record, or from any good copy. */
export async function readHotPart(deps: ObjectDeps, hot: HotPart): Promise<Uint8Array> {
  if (hot.kind === "inline") return hot.bytes;
  const chunks: Uint8Array[] = [];
  const content = { set: hot.blobs, copy: null };
  for await (const chunk of readContent(deps, content, 0, hot.blobs.sizeBytes)) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

/**
 * A whole version in memory, for what has to see all of it at once.
 * @throws {StoreError} `json_too_large`, `overloaded`
 */
export async function withWholeDocument<T>(
  deps: ObjectDeps,
  stored: StoredRecord,
  use: (document: Uint8Array) => Promise<T>,
): Promise<T> {
  const { sizeBytes } = stored.record;
  if (sizeBytes > LIMITS.documentBytesMax) {
    throw new StoreError(
      "json_too_large",
      `The document has ${sizeBytes} bytes: at most ${LIMITS.documentBytesMax} can be read whole for this`,
      { details: { sizeBytes, documentBytesMax: LIMITS.documentBytesMax } },
    );
  }
  const permit = await reserveMemory(deps, sizeBytes);
  const unpin = deps.pins.pin(blobSetsOf(stored.record.manifest));
  try {
    const document = Buffer.allocUnsafe(sizeBytes);
    let filled = 0;
    for await (const chunk of readDocument(deps, stored, 0, sizeBytes)) {
      document.set(chunk, filled);
      filled += chunk.length;
    }
    assert(filled === sizeBytes, "a version has as many bytes as its record says");
    return await use(document);
  } finally {
    unpin();
    permit.release();
  }
}

type HybridManifest = Extract<Manifest, { strategy: "field_hybrid" }>;

/** Interleaves hot and cold bytes. The cold pieces rise, so one pass over the cold content serves all of them. */
async function* readHybrid(
  deps: ObjectDeps,
  manifest: HybridManifest,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, void> {
  if (start >= end) return;
  const hot = await readHotPart(deps, manifest.hot);
  const pieces = restrictPieces(piecesOf(manifest.layout, manifest.cold.sizeBytes), start, end);
  const cold = pieces.flatMap((piece) => (piece.source === "cold" ? [piece] : []));
  const coldStart = cold[0]?.start ?? 0;
  const content = { set: manifest.cold, copy: manifest.copy ?? null };
  const source = readContent(deps, content, coldStart, cold.at(-1)?.end ?? coldStart);
  try {
    yield* interleave(pieces, hot, source, coldStart);
  } finally {
    await source.return();
  }
}

async function* interleave(
  pieces: readonly Piece[],
  hot: Uint8Array,
  source: AsyncGenerator<Uint8Array, void, void>,
  coldStart: number,
): AsyncGenerator<Uint8Array, void, void> {
  let chunk: Uint8Array = new Uint8Array(0);
  let chunkAt = coldStart;
  for (const piece of pieces) {
    if (piece.source === "literal") yield piece.bytes;
    if (piece.source === "hot") yield hot.subarray(piece.start, piece.end);
    if (piece.source !== "cold") continue;
    for (let at = piece.start; at < piece.end;) {
      if (at >= chunkAt + chunk.length) {
        chunkAt += chunk.length;
        const next = await source.next();
        assert(next.done !== true, "the cold part reaches as far as its pieces");
        chunk = next.value;
        continue;
      }
      const part = chunk.subarray(at - chunkAt, piece.end - chunkAt);
      at += part.length;
      yield part;
    }
  }
}

/** Digests a whole read on the way and completes the record, whose digest a hot update had made unknown. */
async function* learnDigest(
  deps: ObjectDeps,
  stored: StoredRecord,
  bytes: AsyncGenerator<Uint8Array, void, void>,
): AsyncGenerator<Uint8Array, void, void> {
  const digest = createHash("sha256");
  for await (const chunk of bytes) {
    digest.update(chunk);
    yield chunk;
  }
  const record = { ...stored.record, sha256: digest.digest("hex") };
  // A newer version makes this one's digest worthless, so a conflict is as good as a commit.
  void commitRecord(deps, record, stored, null).catch((cause: unknown) => {
    deps.logger.warn({ cause: String(cause) }, "a digest that was learnt could not be kept");
  });
}

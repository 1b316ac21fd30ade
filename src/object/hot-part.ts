import { createHash } from "node:crypto";
import type { BlobSet, HotPart, HybridLayout } from "../domain/manifest.ts";
import { LIMITS } from "../limits.ts";
import { holdCopies, streamCopies } from "./blob-copies.ts";
import type { BlobSetWriter } from "./blob-set-writer.ts";
import type { Content } from "./write.ts";

/** A hot part on its way into a record: inside it when small, else as replicated blobs. */
export type HotDraft = {
  readonly writers: Content["writers"];
  readonly partOf: (durable?: ReadonlyMap<BlobSetWriter, BlobSet>) => HotPart;
};

export async function draftHotPart(hot: Uint8Array, openWriter: () => BlobSetWriter): Promise<HotDraft> {
  if (hot.length <= LIMITS.hotInlineBytesMax) {
    return { writers: [], partOf: () => ({ kind: "inline", bytes: hot }) };
  }
  const writer = openWriter();
  if (hot.length <= LIMITS.packedBlobBytesMax) holdCopies(writer, hot);
  else await streamOrAbort(writer, hot);
  return {
    writers: [{ writer, sizeBytes: hot.length }],
    partOf: (durable) => ({ kind: "blobs", blobs: durable?.get(writer) ?? writer.plannedSet(hot.length) }),
  };
}

async function streamOrAbort(writer: BlobSetWriter, hot: Uint8Array): Promise<void> {
  try {
    await streamCopies(writer, hot);
  } catch (cause) {
    await writer.abort();
    throw cause;
  }
}

/** Entity tag of a split document: over both parts and how they interleave, so that no full read is needed. */
export function hybridEtag(coldSha256: string, layout: HybridLayout, hot: Uint8Array): string {
  const table = layout.fields.map((field) => [field.name, field.ordinal, field.valueAt, field.valueBytes]);
  return createHash("sha256").update(coldSha256).update(JSON.stringify(table)).update(hot).digest("hex");
}

/** What becomes of a write that is not to be: its blobs are removed if nobody can complete it any more, else left. */
import type { Manifest, PlacedBlob } from "../domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { quorumOf } from "../placement/strategies.ts";
import type { ObjectDeps } from "./deps.ts";
import type { FenceOutcome } from "./fence-write.ts";
import { fenceWrite } from "./fence-write.ts";
import { blobSetName, blobSetNameOf } from "./read-pins.ts";
import type { Content, Write } from "./write.ts";

/** How far a write has come, for whoever has to end it. */
export type Trail = {
  /** The intent that is open, or may be: the record that it saw. */
  intent: { readonly seen: StoredRecord | null } | null;
  /** From here on blobs may be durable: whoever finds the intent may complete the write. */
  isSealing: boolean;
  isCommitted: boolean;
  /** What a conflict has shown of it, over the revision that its open intent saw. */
  shown: FenceOutcome | null;
};

/** Settles its intent where nothing is left. Answers what is known of its fate. */
export async function rollBack(deps: ObjectDeps, write: Write, content: Content, trail: Trail): Promise<FenceOutcome> {
  const writers = content.writers.map(({ writer }) => writer);
  const fence = await fenceBeforeRemoval(deps, write, content, trail);
  if (fence.kind === "overtaken") {
    await releaseOvertaken(deps, write, content, trail, fence.by);
    return fence;
  }
  try {
    if (fence.kind === "never_current") {
      const removed = await Promise.all(writers.map((writer) => writer.abort().catch(() => false)));
      if (removed.every(Boolean)) await deps.releaser.settle([write.txid]);
    } else {
      for (const writer of writers) writer.keep();
    }
  } finally {
    deps.active.end(write.txid);
  }
  return fence;
}

/**
 * Fence before you delete: recovery may take this write for dead and complete it, until the very last blob is gone. What
 * it cannot complete needs no fence.
 */
async function fenceBeforeRemoval(
  deps: ObjectDeps,
  write: Write,
  content: Content,
  trail: Trail,
): Promise<FenceOutcome> {
  const { intent, isSealing, shown } = trail;
  if (shown !== null) return shown;
  if (intent === null || !isSealing || !(await canBeCompleted(content))) return { kind: "never_current" };
  try {
    return await fenceWrite(deps, write, intent.seen);
  } catch (cause) {
    deps.logger.warn({ txid: write.txid, cause: String(cause) }, "left the blobs of a failed write to recovery");
    return { kind: "unknown" };
  }
}

/** Whether recovery might find its quorum of every set, all told that nodes may have stored without saying so. */
async function canBeCompleted({ writers }: Content): Promise<boolean> {
  const counts = await Promise.all(writers.map(({ writer }) => writer.countPossible()));
  return writers.every(({ writer }, at) => (counts[at] as number) >= quorumOf(writer.plan.redundancy, "quorum"));
}

/**
 * Recovery may have completed the write before another one replaced it. Then readers may still stream what it stored,
 * and its intent alone remembers what it replaced itself.
 */
async function releaseOvertaken(
  deps: ObjectDeps,
  write: Write,
  content: Content,
  trail: Trail,
  by: ObjectRecord,
): Promise<void> {
  const found = await Promise.all(content.writers.map(({ writer }) => writer.findAll()));
  for (const { writer } of content.writers) writer.keep();
  const replaced = replacedBlobs(trail.intent?.seen ?? null, content.manifestOf());
  const named = new Set(blobSetsOf(by.manifest).map(blobSetNameOf));
  const unnamed = replaced.filter(({ id }) => !named.has(blobSetName(id)));
  deps.releaser.schedule(write.txid, [...found.flat(), ...unnamed]);
}

/** The blobs of the version seen that the new manifest no longer refers to. */
export function replacedBlobs(seen: StoredRecord | null, manifest: Manifest): PlacedBlob[] {
  if (seen === null) return [];
  const kept = new Set(blobSetsOf(manifest).map(blobSetNameOf));
  return blobSetsOf(seen.record.manifest)
    .filter((set) => !kept.has(blobSetNameOf(set)))
    .flatMap(placedBlobsOf);
}

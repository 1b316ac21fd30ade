import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName, VersionId } from "../domain/ids.ts";
import { REVISION_NONE, blobIdOf } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { withFence } from "../domain/record.ts";
import type { ActiveWrites } from "../object/active-writes.ts";
import type { ObjectMetrics } from "../object/metrics.ts";
import type { ReadPins } from "../object/read-pins.ts";
import { blobSetName } from "../object/read-pins.ts";
import { deleteBlobs } from "../object/release.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Wal } from "../wal/wal.ts";
import { planRecovery } from "./recover-plan.ts";

export type RecoverDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metadata: MetadataStore;
  readonly wal: Wal;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly metrics: ObjectMetrics;
  readonly active: ActiveWrites;
  readonly pins: ReadPins;
  readonly waitMs: number;
};

export type RecoverOptions = {
  /** No process but this one can still commit what it finds. */
  readonly writerDead: boolean;
  /** Younger intents are left alone: readers may still be about to begin on what their writes replaced. */
  readonly ageMsMin: number;
};

export type RecoverSummary = {
  readonly finished: number;
  readonly resurrected: number;
  readonly rolledBack: number;
  readonly left: number;
};

const PAGE_INTENTS = 256;

/** Settles the intents of writes that ended without saying so. Idempotent: a crash in between repeats harmlessly. */
export async function recoverIntents(deps: RecoverDeps, options: RecoverOptions): Promise<RecoverSummary> {
  const counts = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };
  for (let after = 0; ;) {
    const page = await deps.wal.readOpen(after, PAGE_INTENTS, deadline(deps));
    if (page.length === 0) return counts;
    for (const { sequence, intent, ageMs } of page) {
      after = sequence;
      if (deps.active.has(intent.txid) || ageMs < options.ageMsMin) continue;
      const outcome = await recoverOrLeave(deps, intent, options.writerDead);
      counts[outcome] += 1;
      deps.metrics.recovered.inc({ outcome });
    }
  }
}

/** What cannot be settled now, for whatever operating failure, holds up no other intent. */
async function recoverOrLeave(deps: RecoverDeps, intent: Intent, writerDead: boolean): Promise<keyof RecoverSummary> {
  try {
    return await recoverIntent(deps, intent, writerDead);
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    deps.logger.warn({ txid: intent.txid, code: cause.code }, "an open intent could not be settled yet");
    return "left";
  }
}

async function recoverIntent(deps: RecoverDeps, intent: Intent, writerDead: boolean): Promise<keyof RecoverSummary> {
  const { bucket, key, txid } = intent;
  const { found, strays, draft, complete } = await findBlobs(deps, intent);
  // A node that cannot be asked may hold blobs that decide the case: never conclude from lack of evidence.
  if (!complete) return "left";
  const stored = await deps.metadata.get(bucket, key, deadline(deps));
  const plan = planRecovery({ intent, stored, found, strays, draft, writerDead });
  if (plan.remove.some((blob) => deps.pins.isPinned(blobSetName(blob.id)))) return "left";
  if (plan.action === "resurrect") {
    const change = { record: plan.record, ifRevision: stored?.revision ?? REVISION_NONE, op: "put" as const };
    const result = await deps.metadata.commit(change, deadline(deps));
    if (!result.ok) return "left";
  }
  if (plan.action === "roll_back" && plan.fence && !(await fence(deps, intent, stored))) return "left";
  if (!(await deleteBlobs({ ...deps, nodeMs: deps.waitMs }, plan.remove))) return "left";
  await deps.wal.settle([txid], deadline(deps));
  deps.logger.info({ txid, bucket, action: plan.action }, "an open intent was settled");
  return plan.action === "finish" ? "finished" : plan.action === "resurrect" ? "resurrected" : "rolledBack";
}

type Findings = { found: BlobSet[]; strays: PlacedBlob[]; draft: ObjectRecord | null; complete: boolean };

/** Looks for the planned blobs on every node, since a spare may have taken one that was planned elsewhere. */
async function findBlobs(deps: RecoverDeps, intent: Intent): Promise<Findings> {
  const findings: Findings = { found: [], strays: [], draft: null, complete: true };
  for (const set of intent.planned) {
    const nodes: (NodeName | null)[] = [];
    for (const [index, planned] of set.nodes.entries()) {
      const id = blobIdOf(set.txid, set.part, index);
      const holders = await findHolders(deps, id, findings);
      const chosen = holders.find((node) => node === planned) ?? holders[0] ?? null;
      nodes.push(chosen);
      findings.strays.push(...holders.filter((node) => node !== chosen).map((node) => ({ id, node })));
    }
    findings.found.push({ ...set, nodes });
  }
  return findings;
}

async function findHolders(deps: RecoverDeps, id: BlobId, findings: Findings): Promise<NodeName[]> {
  const holders: NodeName[] = [];
  for (const [node, store] of deps.nodes) {
    try {
      const blob = await store.describe(id, deadline(deps));
      if (blob === null) continue;
      holders.push(node);
      findings.draft ??= decodeDescriptor(blob.descriptor).record;
    } catch (cause) {
      deps.logger.warn({ node, blob: id, cause: String(cause) }, "recovery could not ask a node");
      findings.complete = false;
    }
  }
  return holders;
}

/**
 * Bumps the record that the plan was made from, naming the txid: its late commit then conflicts and gives up. A record
 * that has changed meanwhile may be that very commit, so the plan is void and the intent is looked at again later.
 */
async function fence(deps: RecoverDeps, intent: Intent, stored: StoredRecord | null): Promise<boolean> {
  const record = withFence(stored?.record ?? emptyRecord(deps, intent), intent.txid);
  const result = await deps.metadata.commit({ record, ifRevision: stored?.revision ?? REVISION_NONE }, deadline(deps));
  return result.ok;
}

function emptyRecord(deps: RecoverDeps, intent: Intent): ObjectRecord {
  return {
    state: "fence",
    bucket: intent.bucket,
    key: intent.key,
    version: intent.txid as string as VersionId,
    modifiedAtMs: deps.clock.wallMs(),
    sizeBytes: 0,
    etag: "",
    sha256: null,
    contentType: "",
    userMetadata: {},
    manifest: { strategy: "inline", bytes: new Uint8Array(0) },
    fencedTxids: [],
  };
}

function deadline(deps: RecoverDeps) {
  return deadlineIn(deps.clock, deps.waitMs);
}

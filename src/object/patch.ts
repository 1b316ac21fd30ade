import { StoreError, isStoreError } from "../domain/errors.ts";
import type { VersionId } from "../domain/ids.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { LIMITS } from "../limits.ts";
import { KeyedBatcher } from "../lib/keyed-batcher.ts";
import { planHotPatch } from "../placement/hot-patch.ts";
import { documentBytes } from "../placement/layout.ts";
import { commitVersion } from "./commit-record.ts";
import { readable, requireConditions } from "./conditions.ts";
import type { ObjectDeps } from "./deps.ts";
import { draftHotPart, hybridEtag } from "./hot-part.ts";
import { openBlobSet, redundancyOf } from "./incoming-put.ts";
import type { Look } from "./look-for-write.ts";
import { glance, lookAgain } from "./look-for-write.ts";
import { writeVersion } from "./put.ts";
import type { StoredHybrid } from "./put-hybrid.ts";
import { isHybrid } from "./put-hybrid.ts";
import { readHotPart, withWholeDocument } from "./read-document.ts";
import { NO_PRECONDITIONS } from "./requests.ts";
import type { PatchRequest, PutRequest } from "./requests.ts";
import { beginWrite, finishWrite, receiptOf } from "./write.ts";

/** What became of one patch; a refused one does not hold up the others of its batch. */
type Outcome = { readonly receipt: Receipt } | { readonly refused: StoreError };

const PATCH_ATTEMPTS_MAX = 64;

/**
 * Applies JSON merge patches. Patches of one key that arrive while a commit is under way are applied one after the
 * other in memory and committed together: none loses another's fields, and a document that everyone patches costs one
 * commit per round, not one per patch.
 */
export class ObjectPatcher {
  readonly #queue: KeyedBatcher<PatchRequest, Outcome>;

  constructor(deps: ObjectDeps) {
    this.#queue = new KeyedBatcher((requests) => patchInOrder(deps, requests), LIMITS.commitBatchMax);
  }

  /**
   * Resolves when the patched version is durable.
   * @throws {StoreError} `object_not_found`, `precondition_failed`, the JSON errors of the patch or the document,
   * `json_too_large`, and what `putObject` throws when cold fields have to be rewritten
   */
  async patch(request: PatchRequest): Promise<Receipt> {
    const outcome = await this.#queue.add(`${request.bucket}\0${request.key}`, request);
    if ("refused" in outcome) throw outcome.refused;
    return outcome.receipt;
  }
}

async function patchInOrder(deps: ObjectDeps, requests: readonly PatchRequest[]): Promise<Outcome[]> {
  deps.faults.reach("patch.parsed");
  const outcomes: Outcome[] = [];
  while (outcomes.length < requests.length) {
    outcomes.push(...(await patchSome(deps, requests.slice(outcomes.length))));
  }
  return outcomes;
}

/** Handles at least the first request: a run of hot patches in one commit, or one patch that needs more than that. */
async function patchSome(deps: ObjectDeps, requests: readonly PatchRequest[]): Promise<Outcome[]> {
  const [first] = requests as [PatchRequest, ...PatchRequest[]];
  let look = await glance(deps, first);
  for (let attempt = 0; attempt < PATCH_ATTEMPTS_MAX; attempt += 1) {
    const { stored } = look;
    const run = applyHotPatches(deps, stored, requests);
    if (run.outcomes.length === 0) {
      const outcome = await refusable(() => patchAlone(deps, stored as StoredRecord, first));
      if (outcome !== null && !isDoubtful(outcome, look)) return [outcome];
      look = await lookAgain(deps, first);
      if (outcome !== null && look.stored?.revision === stored?.revision) return [outcome];
      continue;
    }
    if (run.record === null) {
      // Nobody's patch was taken, and no commit proves the record right that refused them.
      if (look.isFresh) return run.outcomes;
      look = await lookAgain(deps, first);
      continue;
    }
    const result = await commitVersion(deps, run.record, stored, "patch");
    if (!result.ok) {
      look = { stored: result.current, isFresh: true };
      continue;
    }
    deps.faults.reach("patch.committed");
    deps.metrics.hotUpdates.inc(run.outcomes.length);
    return run.outcomes;
  }
  const conflict = new StoreError("write_conflict", "Cannot patch: other writers of this key were faster every time", {
    retriable: true,
  });
  return [{ refused: conflict }];
}

/** Whether a refusal may be due to a version that is not there any more: its document differs, or its blobs are freed. */
function isDoubtful(outcome: Outcome, look: Look): boolean {
  if (!("refused" in outcome)) return false;
  const { code, retriable } = outcome.refused;
  return code === "object_damaged" || (!look.isFresh && !retriable);
}

type HotRun = {
  /** The record after the whole run; null when no patch of it changed anything. */
  readonly record: ObjectRecord | null;
  /** One per request of the run; the run ends before the first request that needs more than the record. */
  readonly outcomes: Outcome[];
};

function applyHotPatches(deps: ObjectDeps, stored: StoredRecord | null, requests: readonly PatchRequest[]): HotRun {
  const outcomes: Outcome[] = [];
  let current = readable(stored);
  let record: ObjectRecord | null = null;
  for (const request of requests) {
    try {
      const patched = applyHotPatch(deps, current, request);
      if (patched === null) break;
      outcomes.push({ receipt: receiptOf(patched, current, []) });
      record = patched;
      current = { record: patched, revision: (stored as StoredRecord).revision };
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      outcomes.push({ refused: cause });
    }
  }
  return { record, outcomes };
}

/** The record after one patch, or null when the patch needs more than the record: cold fields, or hot blobs. */
function applyHotPatch(deps: ObjectDeps, current: StoredRecord | null, request: PatchRequest): ObjectRecord | null {
  if (current === null) throw new StoreError("object_not_found", "There is no object under this key to patch");
  requireConditions(request.preconditions, current);
  if (!isHybrid(current) || current.record.manifest.hot.kind !== "inline") return null;
  const { manifest } = current.record;
  if (!manifest.layout.addressable) return null;
  const { hotFields } = deps.settingsOf(request.bucket);
  const plan = planHotPatch({
    layout: manifest.layout,
    hot: current.record.manifest.hot.bytes,
    hotFields,
    patch: request.patch,
  });
  if (plan.kind === "rewrite" || plan.hot.length > LIMITS.hotInlineBytesMax) return null;
  return {
    ...current.record,
    version: deps.nextTxid() as string as VersionId,
    modifiedAtMs: deps.clock.wallMs(),
    sizeBytes: documentBytes(plan.layout, manifest.cold.sizeBytes, plan.hot.length),
    sha256: null,
    etag: hybridEtag(manifest.coldSha256, plan.layout, plan.hot),
    manifest: { ...manifest, hot: { kind: "inline", bytes: plan.hot }, layout: plan.layout },
  };
}

/** Null stands for "somebody else changed the object meanwhile: look again". */
async function patchAlone(deps: ObjectDeps, stored: StoredRecord, request: PatchRequest): Promise<Receipt | null> {
  const hot = isHybrid(stored) ? await patchHotBlobs(deps, stored, request) : "rewrite";
  return hot === "rewrite" ? await rewriteDocument(deps, stored, request) : hot;
}

/** A patch of hot fields only whose hot part is, or becomes, too large for the record. */
async function patchHotBlobs(
  deps: ObjectDeps,
  stored: StoredHybrid,
  request: PatchRequest,
): Promise<Receipt | null | "rewrite"> {
  const { manifest } = stored.record;
  const settings = deps.settingsOf(request.bucket);
  if (!manifest.layout.addressable) return "rewrite";
  const hot = await readHotPart(deps, manifest.hot);
  const plan = planHotPatch({ layout: manifest.layout, hot, hotFields: settings.hotFields, patch: request.patch });
  if (plan.kind === "rewrite") return "rewrite";
  const put = putRequestOf(stored, request, plan.hot);
  const write = beginWrite(deps, put, "exact", "patch");
  const draft = await draftHotPart(plan.hot, () =>
    openBlobSet(deps, { write, request: put, settings }, "hot", redundancyOf(settings, "replication")),
  );
  const outcome = await finishWrite(deps, write, stored, {
    sizeBytes: documentBytes(plan.layout, manifest.cold.sizeBytes, plan.hot.length),
    sha256: null,
    etag: hybridEtag(manifest.coldSha256, plan.layout, plan.hot),
    writers: draft.writers,
    manifestOf: (durable) => ({ ...manifest, hot: draft.partOf(durable), layout: plan.layout }),
  });
  return outcome.ok ? outcome.receipt : null;
}

/** Reads the document, merges, and stores the result as a new version: the price of touching cold fields. */
async function rewriteDocument(deps: ObjectDeps, stored: StoredRecord, request: PatchRequest): Promise<Receipt | null> {
  return await withWholeDocument(deps, stored, async (document) => {
    const merged = await deps.coder.transform({ kind: "merge", document, patch: request.patch });
    const outcome = await writeVersion(deps, putRequestOf(stored, request, merged), stored, "exact", "patch");
    return outcome.ok ? outcome.receipt : null;
  });
}

function putRequestOf(stored: StoredRecord, request: PatchRequest, bytes: Uint8Array): PutRequest {
  const { contentType, userMetadata, manifest } = stored.record;
  return {
    bucket: request.bucket,
    key: request.key,
    body: { kind: "bytes", bytes },
    strategy: manifest.strategy === "field_hybrid" ? "field_hybrid" : null,
    consistency: request.consistency,
    attributes: { contentType, userMetadata },
    preconditions: NO_PRECONDITIONS,
    expectedSha256: null,
    expectedMd5: null,
  };
}

async function refusable(work: () => Promise<Receipt | null>): Promise<Outcome | null> {
  try {
    const receipt = await work();
    return receipt === null ? null : { receipt };
  } catch (cause) {
    if (isStoreError(cause)) return { refused: cause };
    throw cause;
  }
}

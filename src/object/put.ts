import { StoreError } from "../domain/errors.ts";
import type { Receipt } from "../domain/receipt.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { BucketSettings } from "../domain/settings.ts";
import { chooseStrategy } from "../placement/strategies.ts";
import type { ChosenStrategy } from "../placement/strategies.ts";
import { BodyReader } from "./body-reader.ts";
import type { ObjectDeps } from "./deps.ts";
import type { IncomingPut } from "./incoming-put.ts";
import { findReplaceable } from "./look-for-write.ts";
import { putCoded } from "./put-coded.ts";
import { putHybrid } from "./put-hybrid.ts";
import { putInline } from "./put-inline.ts";
import type { PutRequest } from "./requests.ts";
import type { Write, WriteOutcome } from "./write.ts";
import { beginWrite } from "./write.ts";

/**
 * Stores one object under its key, replacing what was there. Resolves when the new version is durable on the quorum of
 * its consistency and committed; the receipt says what was achieved.
 * @throws {StoreError} `precondition_failed`, `body_too_large`, `body_incomplete`, `digest_mismatch`, the JSON errors
 * of a strict split, `placement_impossible`, `quorum_unavailable`, `metadata_unavailable`, `overloaded`; nothing of a
 * failed write is ever visible
 */
export async function putObject(deps: ObjectDeps, request: PutRequest): Promise<Receipt> {
  const seen = await findReplaceable(deps, request);
  deps.faults.reach("put.parsed");
  const outcome = await writeVersion(deps, request, seen, "replace", "put");
  if (!outcome.ok) throw new StoreError("write_conflict", "Cannot commit: the object changed", { retriable: true });
  return outcome.receipt;
}

/** Stores a version over the one that was seen. With `exact`, answers the current one instead when that has changed. */
export async function writeVersion(
  deps: ObjectDeps,
  request: PutRequest,
  seen: StoredRecord | null,
  onConflict: Write["onConflict"],
  op: Write["op"],
): Promise<WriteOutcome> {
  const settings = deps.settingsOf(request.bucket);
  const body = new BodyReader(request.body, deps.objectBytesMax);
  try {
    const chosen = await pickStrategy(settings, request, body);
    const put = { request, seen, body, settings, write: beginWrite(deps, request, onConflict, op) };
    const outcome = await putBy(deps, put, chosen);
    if (outcome.ok) countWrite(deps, outcome.receipt);
    return outcome;
  } finally {
    await body.cancel();
  }
}

async function putBy(deps: ObjectDeps, put: IncomingPut, chosen: ChosenStrategy): Promise<WriteOutcome> {
  switch (chosen.strategy) {
    case "inline":
      return await putInline(deps, put);
    case "replication":
    case "ec":
      return await putCoded(deps, put, chosen.strategy);
    case "field_hybrid":
      return await putHybrid(deps, put, chosen.mode);
  }
}

/** Looks just far enough into the body for the rules of `auto`. */
async function pickStrategy(settings: BucketSettings, request: PutRequest, body: BodyReader): Promise<ChosenStrategy> {
  const choice = request.strategy ?? settings.strategy;
  if (choice !== "auto")
    return chooseStrategy(settings, request.strategy, { sizeBytes: body.declaredBytes, firstByte: null });
  const smallMax = Math.max(settings.inlineBytesMax, settings.replicationBytesMax, settings.hybridBytesMin);
  const head = await body.peek(body.declaredBytes === null ? smallMax + 1 : 1);
  const sizeBytes = head.ended ? head.bytes.length : body.declaredBytes;
  return chooseStrategy(settings, request.strategy, { sizeBytes, firstByte: firstVisible(head.bytes) });
}

function firstVisible(bytes: Uint8Array): number | null {
  for (const byte of bytes) {
    if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d) return byte;
  }
  return null;
}

function countWrite(deps: ObjectDeps, receipt: Receipt): void {
  deps.metrics.writes.inc({ strategy: receipt.strategy });
  deps.metrics.contentBytes.inc({ direction: "in" }, receipt.sizeBytes);
}

import { StoreError } from "../domain/errors.ts";
import { fullCellBytes } from "../domain/geometry.ts";
import type { BlobPart } from "../domain/ids.ts";
import type { Redundancy, Strategy } from "../domain/manifest.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { BucketSettings } from "../domain/settings.ts";
import { planTargets } from "../placement/strategies.ts";
import { BlobSetWriter } from "./blob-set-writer.ts";
import type { BodyReader } from "./body-reader.ts";
import type { ObjectDeps } from "./deps.ts";
import type { PutRequest } from "./requests.ts";
import type { Write } from "./write.ts";

/** One put on its way through the strategies. */
export type IncomingPut = {
  readonly request: PutRequest;
  readonly seen: StoredRecord | null;
  readonly body: BodyReader;
  readonly settings: BucketSettings;
  readonly write: Write;
};

export function redundancyOf(settings: BucketSettings, strategy: Exclude<Strategy, "inline">): Redundancy {
  return strategy === "replication"
    ? { scheme: "replication", copies: settings.replicas }
    : { scheme: "ec", k: settings.k, m: settings.m };
}

/** @throws {StoreError} `digest_mismatch` when the body is not the one that the sender announced */
export function requireDigests(request: PutRequest, digests: { sha256: string; md5: string | null }): void {
  const wrong =
    (request.expectedSha256 !== null && request.expectedSha256 !== digests.sha256 && "SHA-256") ||
    (request.expectedMd5 !== null && request.expectedMd5 !== digests.md5 && "MD5");
  if (wrong) throw new StoreError("digest_mismatch", `The body's ${wrong} is not the one that was announced`);
}

/** Plans where the blobs of one part go; nothing is sent yet. @throws {StoreError} `placement_impossible` */
export function openBlobSet(
  deps: ObjectDeps,
  put: Pick<IncomingPut, "write" | "request" | "settings">,
  part: BlobPart,
  redundancy: Redundancy,
): BlobSetWriter {
  const targets = planTargets({
    nodes: deps.membership.snapshot(),
    redundancy,
    consistency: put.request.consistency ?? put.settings.consistency,
    key: `${put.write.bucket}/${put.write.key}`,
  });
  return new BlobSetWriter(deps, {
    txid: put.write.txid,
    part,
    redundancy,
    cellBytes: fullCellBytes(redundancy),
    targets,
  });
}

import { blobIdOf } from "../domain/ids.ts";
import { blobSetsOf, type BlobSet } from "../domain/manifest.ts";
import { isDirty, type StoredRecord } from "../domain/record.ts";

/** One line of a listing. */
export function summarizeObject({ record }: StoredRecord) {
  return {
    key: record.key,
    version: record.version,
    etag: record.etag,
    sizeBytes: record.sizeBytes,
    sha256: record.sha256,
    contentType: record.contentType,
    strategy: record.manifest.strategy,
    modifiedAt: new Date(record.modifiedAtMs).toISOString(),
  };
}

/** Everything the store knows of an object, down to the node of every blob. */
export function describeObject(stored: StoredRecord) {
  const { record, revision } = stored;
  const { manifest } = record;
  return {
    bucket: record.bucket,
    ...summarizeObject(stored),
    revision,
    dirty: isDirty(record),
    userMetadata: record.userMetadata,
    placement: {
      inlineBytes: manifest.strategy === "inline" ? manifest.bytes.length : 0,
      hotFields: manifest.strategy === "field_hybrid" ? hotFieldsOf(manifest.layout.fields) : [],
      hotInlineBytes:
        manifest.strategy === "field_hybrid" && manifest.hot.kind === "inline" ? manifest.hot.bytes.length : 0,
      blobSets: blobSetsOf(manifest).map(describeBlobSet),
    },
  };
}

function hotFieldsOf(fields: readonly { readonly name: string; readonly valueBytes: number }[]) {
  // An entry without a name holds bytes that were taken for a hot value and were none.
  return fields
    .filter((field) => field.name !== "" && field.valueBytes >= 0)
    .map(({ name, valueBytes }) => ({ name, valueBytes }));
}

function describeBlobSet({ txid, part, sizeBytes, cellBytes, redundancy, nodes }: BlobSet) {
  const blobs = nodes.map((node, index) => ({ id: blobIdOf(txid, part, index), index, node, stored: node !== null }));
  return { part, sizeBytes, cellBytes, redundancy, blobs };
}

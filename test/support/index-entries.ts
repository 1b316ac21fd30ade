import type { Revision } from "../../src/domain/ids.ts";
import { slotOf } from "../../src/metadata/lmdb-metadata-layout.ts";
import { encodeStoredValue, withRevision } from "../../src/metadata/stored-value.ts";
import type { StreamEntry } from "../../src/metadata/stream-progress.ts";
import { sampleRecord } from "./sample-records.ts";

/** What a stream would deliver at `sequence`: one of a hundred keys, each written again and again. */
export function indexEntry(sequence: number, key = `key-${sequence % 100}`): StreamEntry {
  const record = sampleRecord(key, { sizeBytes: sequence });
  const value = withRevision(encodeStoredValue(record), sequence as Revision);
  return { sequence, slot: slotOf(record.bucket, record.key), value };
}

import type { BucketName } from "../domain/ids.ts";
import type { BucketSummary } from "./metadata-store.ts";
import type { StoredValue } from "./stored-value.ts";
import { isReadable, objectBytesOf } from "./stored-value.ts";

/** The totals of a bucket after `value` took the place of `replaced`; `before` itself when they stay as they are. */
export function summarizeChange(
  bucket: BucketName,
  before: BucketSummary | null,
  replaced: StoredValue | null,
  value: StoredValue,
): BucketSummary {
  const [countBefore, bytesBefore] = readableCountAndBytes(replaced);
  const [countAfter, bytesAfter] = readableCountAndBytes(value);
  if (before !== null && countBefore === countAfter && bytesBefore === bytesAfter) return before;
  return {
    bucket,
    objectCount: (before?.objectCount ?? 0) + countAfter - countBefore,
    objectBytes: (before?.objectBytes ?? 0) + bytesAfter - bytesBefore,
  };
}

function readableCountAndBytes(value: StoredValue | null): [count: number, bytes: number] {
  return value !== null && isReadable(value) ? [1, objectBytesOf(value)] : [0, 0];
}

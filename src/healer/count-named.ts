import type { BucketName, NodeName, ObjectKey } from "../domain/ids.ts";
import { blobSetsOf } from "../domain/manifest.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";

const RECORDS_PER_PAGE = 1_000;

/** How many blobs of records are on the node: all of them where there are none, else as many as the first page with some has. */
export async function countNamedBlobs(
  deps: Pick<ObjectDeps, "metadata" | "clock" | "timeouts">,
  node: NodeName,
): Promise<number> {
  let after: { readonly bucket: BucketName; readonly key: ObjectKey } | null = null;
  for (;;) {
    const page = await deps.metadata.scan(after, RECORDS_PER_PAGE, metadataDeadline(deps));
    const last = page.at(-1);
    if (last === undefined) return 0;
    const sets = page.flatMap(({ record }) => blobSetsOf(record.manifest));
    const named = sets.reduce((sum, { nodes }) => sum + nodes.filter((name) => name === node).length, 0);
    if (named > 0) return named;
    after = last.record;
  }
}

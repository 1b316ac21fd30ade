import { describe, expect, test } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { MemoryBlobStore } from "../../../src/blob/memory-blob-store.ts";
import { encodeDescriptor } from "../../../src/domain/blob.ts";
import { cellChecksum } from "../../../src/domain/checksum.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { BlobId, NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf, REVISION_NONE } from "../../../src/domain/ids.ts";
import type { Work } from "../../../src/domain/work.ts";
import { NodeVerification } from "../../../src/healer/verify-node.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { ANY_TIME, override } from "../../support/memory-store.ts";
import { sampleIntent, sampleRecord } from "../../support/sample-records.ts";

const n1 = "n1" as NodeName;
const going = new AbortController().signal;

/** A node with so many blobs, whose verification `verdict` decides. */
async function open(count: number, verdict: (id: BlobId) => "sound" | "bad" | StoreError = () => "sound") {
  const clock = new ManualClock();
  const real: BlobStore = new MemoryBlobStore(n1, clock);
  const ids: BlobId[] = [];
  for (let n = 0; n < count; n += 1) {
    const id = blobIdOf(sampleIntent(n).txid, "body", 0);
    const payload = Buffer.from(`blob ${n}`);
    const descriptor = encodeDescriptor({ record: sampleRecord(`k${n}`), revisionSeen: REVISION_NONE });
    const checksum = cellChecksum(payload, id, 0);
    await real.put({ id, descriptor, cells: [{ payload, checksum }] }, ANY_TIME);
    ids.push(id);
  }
  const store = override(real, {
    async verify(id, deadline) {
      const said = verdict(id);
      if (said instanceof StoreError) throw said;
      return said === "bad" ? [{ id, cellIndex: 0, reason: "rot" }] : await real.verify(id, deadline);
    },
  });
  const queued: Work[] = [];
  const queue = { add: async (work: Work) => void queued.push(work) };
  const verification = new NodeVerification(
    { clock, queue, throttle: new Throttle(clock, null), waitMs: 1_000 },
    store,
  );
  return { verification, queued, ids };
}

describe("NodeVerification", () => {
  test("verifies every blob, page by page", async () => {
    const { verification, queued } = await open(130);
    await verification.step(going);
    expect(verification.status()).toMatchObject({ count: 64, total: 130, isDone: false });
    await verification.step(going);
    await verification.step(going);
    expect(verification.status()).toMatchObject({ count: 130, total: 130, bad: 0, isDone: true });
    expect(queued).toEqual([]);
  });

  test("queues the mending of what is bad, by the key that its descriptor names", async () => {
    const bad = new Set<BlobId>();
    const { verification, queued, ids } = await open(5, (id) => (bad.has(id) ? "bad" : "sound"));
    bad.add(ids[2] as BlobId);
    await verification.step(going);
    expect(verification.status()).toMatchObject({ bad: 1, isDone: true });
    expect(queued).toMatchObject([
      { kind: "mend", reason: "damaged", key: "k2", suspects: [{ id: ids[2], node: n1 }] },
    ]);
  });

  test("leaves out what was deleted meanwhile, and verifies a page again that could not be", async () => {
    let isAway = true;
    const { verification } = await open(3, () =>
      isAway ? new StoreError("node_unavailable", "away") : new StoreError("blob_not_found", "deleted"),
    );
    await expect(verification.step(going)).rejects.toMatchObject({ code: "node_unavailable" });
    expect(verification.status()).toMatchObject({ count: 0, isDone: false });
    isAway = false;
    await verification.step(going);
    expect(verification.status()).toMatchObject({ count: 3, bad: 0, isDone: true });
  });
});

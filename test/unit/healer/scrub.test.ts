import { describe, expect, it, test } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import { MemoryBlobStore } from "../../../src/blob/memory-blob-store.ts";
import { encodeDescriptor } from "../../../src/domain/blob.ts";
import { cellChecksum } from "../../../src/domain/checksum.ts";
import type { BlobId, NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf, REVISION_NONE } from "../../../src/domain/ids.ts";
import type { Work } from "../../../src/domain/work.ts";
import { createScrub } from "../../../src/healer/scrub.ts";
import type { ScrubState } from "../../../src/healer/scrub-state.ts";
import { NEVER_SCRUBBED, scrubStateCodec } from "../../../src/healer/scrub-state.ts";
import { Throttle } from "../../../src/lib/throttle.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { ANY_TIME, override } from "../../support/memory-store.ts";
import { sampleIntent, sampleRecord } from "../../support/sample-records.ts";

const EVERY_MS = 1_000_000;
const going = new AbortController().signal;

async function openNode(count: number) {
  const clock = new ManualClock();
  const real: BlobStore = new MemoryBlobStore("n1" as NodeName, clock);
  for (let n = 0; n < count; n += 1) {
    const id = blobIdOf(sampleIntent(n).txid, "body", 0);
    const payload = Buffer.from(`blob ${n}`);
    const descriptor = encodeDescriptor({ record: sampleRecord(`k${n}`), revisionSeen: REVISION_NONE });
    await real.put({ id, descriptor, cells: [{ payload, checksum: cellChecksum(payload, id, 0) }] }, ANY_TIME);
  }
  const verified: BlobId[] = [];
  const bad = new Set<BlobId>();
  const store = override(real, {
    async verify(id) {
      verified.push(id);
      return bad.has(id) ? [{ id, cellIndex: 0, reason: "rot" }] : [];
    },
  });
  const queued: Work[] = [];
  let kept: ScrubState = NEVER_SCRUBBED;
  const start = () =>
    createScrub({
      ...{ clock, store, everyMs: EVERY_MS, waitMs: 1_000, throttle: new Throttle(clock, null) },
      queue: { add: async (work) => void queued.push(work) },
      state: { read: () => Promise.resolve(kept), change: async (change) => (kept = change()) },
    });
  /** Steps until there is nothing to do; answers how many blobs were verified meanwhile. */
  const drain = async (scrub: ReturnType<typeof createScrub>) => {
    const before = verified.length;
    while ((await scrub.step(going)).state === "busy");
    return verified.length - before;
  };
  return { clock, start, drain, verified, bad, queued, kept: () => kept };
}

describe("createScrub()", () => {
  test("verifies everything once per period, counted from the end of the run before", async () => {
    const { clock, start, drain } = await openNode(20);
    const scrub = start();
    expect(await drain(scrub)).toBe(0);
    clock.advance(EVERY_MS - 1);
    expect(await drain(scrub)).toBe(0);
    clock.advance(1);
    expect(await drain(scrub)).toBe(20);
    expect(await drain(scrub)).toBe(0);
    expect(scrub.figures()).toMatchObject({ runsEnded: 1, blobsVerified: 20, blobsBad: 0 });
  });

  test("begins at once when it is asked to", async () => {
    const { start, drain } = await openNode(20);
    const scrub = start();
    scrub.runNow();
    expect(await drain(scrub)).toBe(20);
  });

  test("goes on after a restart where it was", async () => {
    const { clock, start, drain, verified, kept } = await openNode(40);
    const first = start();
    first.runNow();
    for (let step = 0; step < 3; step += 1) {
      clock.advance(20_000);
      await first.step(going);
    }
    expect(kept().position?.count).toBe(24);
    expect(await drain(start())).toBe(16);
    expect(new Set(verified).size).toBe(40);
  });

  test("takes steps of a few blobs, and queues what is bad", async () => {
    const { start, verified, bad, queued, drain } = await openNode(20);
    const scrub = start();
    scrub.runNow();
    await scrub.step(going);
    expect([verified.length, scrub.progress()]).toEqual([8, { done: 8, total: 20, unit: "blobs" }]);
    bad.add(blobIdOf(sampleIntent(15).txid, "body", 0));
    await drain(scrub);
    expect(queued).toMatchObject([{ kind: "mend", reason: "damaged", key: "k15" }]);
    expect(scrub.figures()).toMatchObject({ blobsBad: 1 });
  });
});

describe("scrubStateCodec", () => {
  it("writes the bytes of version 1", () => {
    const state = { position: { after: "01J.body.0", count: 3, bad: 1, bytes: 70_000 }, endedAtMs: 1_750_000_000_000 };
    const golden =
      "01de0002a8706f736974696f6ede0004a56166746572aa30314a2e626f64792e30a5636f756e7403a362616401" +
      "a56279746573ce00011170a9656e64656441744d73cb427977420dc00000";
    expect(Buffer.from(scrubStateCodec.encode(state)).toString("hex")).toBe(golden);
    expect(scrubStateCodec.decode(Buffer.from(golden, "hex"))).toEqual(state);
  });
});

import { describe, expect, it } from "vitest";
import type { NodeName, Txid } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { blobSetsOf, blobsNeeded, blobsPlanned, placedBlobsOf } from "../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import {
  decodeRecord,
  encodeRecord,
  fencesOf,
  isDirty,
  judgeFence,
  nodesOf,
  strategyOf,
  withFence,
} from "../../../src/domain/record.ts";
import { LIMITS } from "../../../src/limits.ts";
import { sampleRecord, sampleTxid } from "../../support/sample-records.ts";

const [n1, n2, n3] = ["n1", "n2", "n3"] as [NodeName, NodeName, NodeName];

function copies(part: BlobSet["part"], ...nodes: (NodeName | null)[]): BlobSet {
  const redundancy = { scheme: "replication", copies: nodes.length } as const;
  return { txid: sampleTxid(1), part, sizeBytes: 3, cellBytes: 64, redundancy, nodes };
}

function hybrid(hot: BlobSet | null, cold: BlobSet) {
  const layout = { memberCount: 0, closeAt: 1, fields: [], absent: [], addressable: true };
  const hotPart =
    hot === null ? { kind: "inline" as const, bytes: Buffer.of(1) } : { kind: "blobs" as const, blobs: hot };
  return { strategy: "field_hybrid", hot: hotPart, cold, coldSha256: "", layout } as const;
}

describe("blobSetsOf()", () => {
  it("lists every set of every strategy", () => {
    const [body, hot, cold] = [copies("body", n1), copies("hot", n1), copies("cold", n2)];
    expect(blobSetsOf({ strategy: "inline", bytes: Buffer.of(1) })).toEqual([]);
    expect(blobSetsOf({ strategy: "replication", body })).toEqual([body]);
    expect(blobSetsOf({ strategy: "ec", body })).toEqual([body]);
    expect(blobSetsOf(hybrid(null, cold))).toEqual([cold]);
    expect(blobSetsOf(hybrid(hot, cold))).toEqual([hot, cold]);
  });
});

describe("placedBlobsOf()", () => {
  it("names blobs by their place in the set, also behind one that is missing", () => {
    const txid = sampleTxid(1);
    expect(placedBlobsOf(copies("hot", n1, null, n3))).toEqual([
      { id: `${txid}.hot.0`, node: n1 },
      { id: `${txid}.hot.2`, node: n3 },
    ]);
  });
});

describe("blobsNeeded() and blobsPlanned()", () => {
  it("follow from the code", () => {
    const codes = [{ scheme: "replication", copies: 3 } as const, { scheme: "ec", k: 4, m: 2 } as const];
    expect(codes.map(blobsNeeded)).toEqual([1, 4]);
    expect(codes.map(blobsPlanned)).toEqual([3, 6]);
  });
});

describe("isDirty()", () => {
  it("is true as soon as any planned blob of any part is missing", () => {
    expect(isDirty(sampleRecord("k"))).toBe(false);
    expect(isDirty(sampleRecord("k", { manifest: hybrid(copies("hot", n1), copies("cold", n2)) }))).toBe(false);
    expect(isDirty(sampleRecord("k", { manifest: hybrid(copies("hot", null), copies("cold", n2)) }))).toBe(true);
    expect(isDirty(sampleRecord("k", { manifest: hybrid(copies("hot", n1), copies("cold", n2, null)) }))).toBe(true);
  });
});

describe("nodesOf()", () => {
  it("lists nodes once, whatever they hold", () => {
    expect(nodesOf([copies("hot", n1, null, n2), copies("cold", n2, n3)])).toEqual([n1, n2, n3]);
    expect(strategyOf(sampleRecord("k"))).toBe("inline");
  });
});

describe("withFence()", () => {
  it("adds a txid, keeps the newest and leaves the record it was given alone", () => {
    const before = sampleRecord("k");
    let record = before;
    for (let n = 0; n < LIMITS.fencedTxidsMax + 3; n += 1) record = withFence(record, sampleTxid(n));
    expect(before.fencedTxids).toEqual([]);
    expect(record.fencedTxids).toHaveLength(LIMITS.fencedTxidsMax);
    expect(record.fencedTxids.at(-1)).toBe(sampleTxid(LIMITS.fencedTxidsMax + 2));
    expect(record.fencedTxids[0]).toBe(sampleTxid(3));
    const { fencedTxids: _, fencesForgotten, ...rest } = record;
    expect(fencesForgotten).toBe(3);
    expect(rest).toEqual((({ fencedTxids: __, ...others }) => others)(before));
  });
});

describe("judgeFence()", () => {
  const MAX = LIMITS.fencedTxidsMax;
  const ours = sampleTxid(1_000);

  /** A record after so many fences, the one numbered `oursAt` being ours, as it is after it was stored and read again. */
  function fencedTimes(count: number, oursAt = 0): ObjectRecord {
    let record = sampleRecord("k");
    for (let n = 1; n <= count; n += 1) {
      record = decodeRecord(encodeRecord(withFence(record, n === oursAt ? ours : sampleTxid(n))));
      // The next version takes them over.
      if (n % 3 === 0) record = sampleRecord("k", fencesOf(record));
    }
    return record;
  }

  it("never calls free what was fenced since, however many fences came behind", () => {
    for (const seen of [0, 1, MAX - 1, MAX, MAX + 1, 3 * MAX]) {
      const before = seen === 0 ? null : fencedTimes(seen);
      for (let since = 1; since <= 2 * MAX + 2; since += 1) {
        for (let oursAt = seen + 1; oursAt <= seen + since; oursAt += 1) {
          const isListed = seen + since - oursAt < MAX;
          expect(judgeFence(before, fencedTimes(seen + since, oursAt), ours)).toBe(isListed ? "fenced" : "unknown");
        }
      }
    }
  });

  it("calls free what was not fenced, as long as no more fences came than the list holds", () => {
    for (const seen of [0, 1, MAX - 1, MAX, MAX + 1, 3 * MAX]) {
      const before = seen === 0 ? null : fencedTimes(seen);
      for (let since = 0; since <= 2 * MAX; since += 1) {
        expect(judgeFence(before, fencedTimes(seen + since), ours)).toBe(since <= MAX ? "free" : "unknown");
      }
    }
  });

  it("calls unknown what meets a record that was made after the one seen had been removed", () => {
    expect(judgeFence(fencedTimes(3), fencedTimes(0), ours)).toBe("unknown");
    expect(judgeFence(fencedTimes(3), fencedTimes(2), ours)).toBe("unknown");
  });

  it("takes a full list of a record that was stored uncounted for one that has forgotten fences", () => {
    const uncounted = (from: number, count: number) => {
      const fencedTxids = Array.from({ length: count }, (_, n) => sampleTxid(from + n));
      return decodeRecord(encodeRecord(sampleRecord("k", { fencedTxids })));
    };
    expect(judgeFence(uncounted(1, 3), uncounted(1, 9), ours)).toBe("free");
    expect(judgeFence(null, uncounted(1, 15), ours)).toBe("free");
    for (const seen of [null, uncounted(1, 3), uncounted(1, 15)]) {
      expect(judgeFence(seen, uncounted(1, 16), ours)).toBe("unknown");
    }
    // Whoever saw the full list has only to account for what was added to it, and that is counted.
    let record = uncounted(1, 16);
    const full = record;
    for (let n = 1; n <= 17; n += 1) {
      record = withFence(record, sampleTxid(100 + n));
      expect(judgeFence(full, record, ours)).toBe(n <= 16 ? "free" : "unknown");
    }
  });
});

describe("decodeRecord()", () => {
  it("gives metadata that has its own names only, so that none is inherited", () => {
    const { userMetadata } = decodeRecord(encodeRecord(sampleRecord("k", { userMetadata: {} })));
    expect(Object.getPrototypeOf(userMetadata)).toBeNull();
    expect("toString" in userMetadata).toBe(false);
    expect(Object.keys(userMetadata)).toEqual([]);
  });

  it("keeps numbers that need more than 32 bits", () => {
    for (const sizeBytes of [0, 2 ** 31, 2 ** 32 + 1, LIMITS.objectBytesMax, Number.MAX_SAFE_INTEGER]) {
      const record = sampleRecord("k", { sizeBytes, fencedTxids: [sampleTxid(1) satisfies Txid] });
      expect(decodeRecord(encodeRecord(record))).toMatchObject({ sizeBytes, fencedTxids: [sampleTxid(1)] });
    }
  });
});

import { describe, expect, it } from "vitest";
import type { BlobId, NodeName, Revision, Txid, VersionId } from "../../../src/domain/ids.ts";
import type { BlobSet, PlacedBlob } from "../../../src/domain/manifest.ts";
import type { StoredRecord } from "../../../src/domain/record.ts";
import { Looks } from "../../../src/healer/recover-looks.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { sampleIntent, sampleRecord, sampleTxid } from "../../support/sample-records.ts";

const OURS = sampleTxid(1);
const OTHERS = sampleTxid(2);

/** A record of a version, with the blobs that it names as `<txid>.body.<index>@n<index>`. */
function recordOf(txid: Txid, holds: readonly number[], fencedTxids: Txid[] = []): StoredRecord {
  const nodes = [0, 1, 2].map((index) => (holds.includes(index) ? (`n${index}` as NodeName) : null));
  const body: BlobSet = {
    ...{ txid, part: "body", sizeBytes: 1, cellBytes: 64, nodes },
    redundancy: { scheme: "replication", copies: 3 },
  };
  const version = txid as string as VersionId;
  const record = sampleRecord("k", { version, fencedTxids, manifest: { strategy: "replication", body } });
  return { record, revision: 1 as Revision };
}

function blobOf(txid: Txid, index: number): PlacedBlob {
  return { id: `${txid}.body.${index}` as BlobId, node: `n${index}` as NodeName };
}

/** Looks at an intent that replaces two blobs of another version, a second after each look before. */
function openLooks() {
  const clock = new ManualClock();
  const looks = new Looks(clock);
  const intent = sampleIntent(1, { replaces: [blobOf(OTHERS, 0), blobOf(OTHERS, 1)] });
  const entry = { sequence: 1, intent, ageMs: 0 };
  const note = (stored: StoredRecord | null) => {
    clock.advance(1_000);
    return looks.note(looks.of(entry), entry, stored);
  };
  return { clock, looks, entry, note };
}

describe("Looks", () => {
  it("note() counts the time of replaced blobs from when the latest of them left the record", () => {
    const { note } = openLooks();
    expect(note(recordOf(OTHERS, [0, 1])).replacedMs).toBe(0);
    expect(note(recordOf(OTHERS, [0])).replacedMs, "one has left").toBe(0);
    expect(note(recordOf(OTHERS, [0])).replacedMs).toBe(1_000);
    expect(note(recordOf(OURS, [0])).replacedMs, "the other has left").toBe(0);
    expect(note(recordOf(OURS, [0])).replacedMs).toBe(1_000);
  });

  it("note() holds a write for over only when it can never be current again", () => {
    const { note } = openLooks();
    expect(note(null).overMs).toBe(0);
    expect(note(recordOf(OTHERS, [0])).overMs, "it may still commit").toBe(0);
    // It did, and was replaced, between two looks.
    expect(note(recordOf(OTHERS, [1])).overMs).toBe(0);
    expect(note(recordOf(OTHERS, [1], [OURS]))).toMatchObject({ overMs: 0, fencedMs: 0 });
    expect(note(recordOf(OTHERS, [1], [OURS]))).toMatchObject({ overMs: 1_000, fencedMs: 1_000 });
  });

  it("note() holds a resurrected write for over when it is replaced, though it was fenced before", () => {
    const { note } = openLooks();
    expect(note(recordOf(OURS, [0], [OURS]))).toMatchObject({ overMs: 0, fencedMs: 0 });
    expect(note(recordOf(OURS, [0], [OURS]))).toMatchObject({ overMs: 0, fencedMs: 1_000 });
    expect(note(recordOf(OTHERS, [0], [OURS]))).toMatchObject({ overMs: 0, fencedMs: 2_000 });
    expect(note(recordOf(OTHERS, [0], [OURS]))).toMatchObject({ overMs: 1_000, fencedMs: 3_000 });
  });

  it("note() remembers a fence that has left the record", () => {
    const { note } = openLooks();
    expect(note(recordOf(OTHERS, [1])).fenced).toBe(false);
    expect(note(recordOf(OTHERS, [1], [OURS])).fenced).toBe(true);
    expect(note(recordOf(OTHERS, [1]))).toMatchObject({ fenced: true, fencedMs: 1_000, overMs: 1_000 });
  });

  it("begins anew with an intent that was appended again", () => {
    const { looks, entry, note } = openLooks();
    note(recordOf(OTHERS, [1], [OURS]));
    expect(note(recordOf(OTHERS, [1], [OURS])).fencedMs).toBe(1_000);
    const again = { ...entry, sequence: 2, intent: sampleIntent(1, { replaces: [blobOf(OTHERS, 2)] }) };
    expect(looks.note(looks.of(again), again, recordOf(OTHERS, [1], [OURS])).fencedMs).toBe(0);
  });

  it("goes on with an intent that was only moved behind the others", () => {
    const { clock, looks, entry, note } = openLooks();
    note(recordOf(OTHERS, [1], [OURS]));
    expect(note(recordOf(OTHERS, [1], [OURS])).fencedMs).toBe(1_000);
    for (const sequence of [2, 3]) {
      clock.advance(1_000);
      // Read from the log anew, as it is by a page of it.
      const moved = { ...entry, sequence, intent: structuredClone(entry.intent) };
      const { fencedMs } = looks.note(looks.of(moved), moved, recordOf(OTHERS, [1], [OURS]));
      expect(fencedMs).toBe(sequence * 1_000);
    }
  });

  it("looks less and less often at what cannot be settled, but at most eight seconds apart", () => {
    const { clock, looks, entry } = openLooks();
    const look = looks.of(entry);
    const waits = [1, 2, 3, 4, 5].map(() => {
      looks.backOff(look);
      let waitedMs = 0;
      for (; !looks.isTime(look); waitedMs += 500) clock.advance(500);
      return waitedMs;
    });
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 8_000]);
  });

  it("keepOnly() forgets intents that are not open any more", () => {
    const { looks, entry, note } = openLooks();
    note(recordOf(OTHERS, [1], [OURS]));
    looks.keepOnly(new Set());
    expect(looks.of(entry).fencedAtMs).toBeNull();
  });
});

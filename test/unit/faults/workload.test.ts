import { describe, expect, test } from "vitest";
import { patchValue } from "../../faults/checkers/register.ts";
import { HistoryRecorder } from "../../faults/history/recorder.ts";
import {
  contentOf,
  documentOf,
  patchOf,
  sha256Of,
  valueOfDocument,
  valueOfPlan,
} from "../../faults/workload/content.ts";
import { KeySpace } from "../../faults/workload/keys.ts";
import { ObjectReader } from "../../faults/workload/object-reader.ts";
import type { Answer } from "../../support/black-box/client.ts";

const PLAN = { base: "c1-1", padBytes: 300 };

function answerOf(body: Buffer, headers: Answer["headers"] = {}): Answer {
  const digest = sha256Of(body);
  return { status: 200, body, headers: { etag: `"${digest}"`, "x-kintsugi-sha256": digest, ...headers } };
}

/** A reader of one key with one content, and what it finds wrong. */
function readerOf(key: string, body: Buffer, name: string) {
  const keys = new KeySpace();
  const recorder = new HistoryRecorder();
  keys.addContent(key, sha256Of(body), { name, sizeBytes: body.length });
  return { reader: new ObjectReader(keys, recorder), contradictions: recorder.contradictions, keys };
}

describe("contentOf()", () => {
  test("makes the same bytes of the same name, and others of every other", () => {
    for (const sizeBytes of [1, 7, 64, 100_000]) {
      expect(contentOf("c1-1", sizeBytes)).toHaveLength(sizeBytes);
      expect(contentOf("c1-1", sizeBytes).equals(contentOf("c1-1", sizeBytes))).toBe(true);
    }
    expect(contentOf("c1-1", 64).equals(contentOf("c1-2", 64))).toBe(false);
  });
});

describe("valueOfDocument()", () => {
  const planOf = (base: string) => (base === PLAN.base ? PLAN : undefined);

  test("tells a document as it was sent, and patched as the checkers expect", () => {
    const body = documentOf(PLAN);
    expect(valueOfDocument(body, planOf)).toBe(valueOfPlan(PLAN));
    const patched = JSON.parse(body.toString()) as Record<string, unknown>;
    for (const field of ["rssi", "cold"] as const) {
      const patch = patchOf(`c2-${field}`, field);
      Object.assign(patched, JSON.parse(patch.body));
      const value = valueOfDocument(Buffer.from(JSON.stringify(patched)), planOf);
      expect(value).toContain(`${field}=c2-${field}`);
      expect(value).toContain(`status=c2-${field}`);
    }
    expect(patchValue(valueOfPlan(PLAN), patchOf("c2-1", "rssi").fields)).toContain("rssi=c2-1;status=c2-1");
  });

  test("does not know halves of documents, nor those of others", () => {
    const body = documentOf(PLAN);
    expect(valueOfDocument(body.subarray(0, 200), planOf)).toBeNull();
    expect(valueOfDocument(Buffer.from(body.toString().replace(/"pad": "..../, '"pad": "0000')), planOf)).toBeNull();
    expect(valueOfDocument(documentOf({ ...PLAN, base: "c9-9" }), planOf)).toBeNull();
  });
});

describe("ObjectReader", () => {
  const body = contentOf("c1-1", 1_000);

  test("takes what was written for what it is", () => {
    const { reader, contradictions } = readerOf("register/0", body, "c1-1");
    const { outcome, meanings } = reader.whole("register/0", "register", answerOf(body));
    expect([outcome, meanings[0]?.action]).toEqual(["ok", { kind: "read", value: sha256Of(body) }]);
    reader.range("register/0", { ...answerOf(body), status: 206, body: body.subarray(10, 20) }, { start: 10, end: 20 });
    expect(contradictions).toEqual([]);
  });

  test("notices bytes that are another's than the answer says, whole and in ranges", () => {
    const { reader, contradictions } = readerOf("register/0", body, "c1-1");
    const other = contentOf("c1-2", 1_000);
    reader.whole("register/0", "register", answerOf(other, { "x-kintsugi-sha256": sha256Of(body) }));
    expect(contradictions).toHaveLength(1);
    const range = { ...answerOf(body), status: 206, body: other.subarray(10, 20) };
    reader.range("register/0", range, { start: 10, end: 20 });
    expect(contradictions).toHaveLength(2);
  });

  test("takes an error for nothing seen, and one that is the reader's fault for wrong", () => {
    const { reader, contradictions } = readerOf("register/0", body, "c1-1");
    const refused = (status: number) => reader.whole("register/0", "register", { ...answerOf(body), status });
    expect(refused(503)).toMatchObject({ outcome: "failed", meanings: [] });
    expect(contradictions).toEqual([]);
    refused(400);
    expect(contradictions).toHaveLength(1);
  });

  test("tells of every key whether a listing has it", () => {
    const { reader } = readerOf("register/0", body, "c1-1");
    const page = { objects: [{ key: "register/0", etag: "tag" }], next: null };
    const { meanings } = reader.listing(["register/0", "register/1"], answerOf(Buffer.from(JSON.stringify(page))));
    expect(meanings).toEqual([
      { key: "register/0", action: { kind: "read_tag", etag: "tag" } },
      { key: "register/1", action: { kind: "read", value: null } },
    ]);
  });
});

describe("HistoryRecorder", () => {
  test("gives unknown outcomes no end, and leaves out what did not happen", async () => {
    const recorder = new HistoryRecorder();
    const request = { client: "c0", gateway: "gateway-1", request: "PUT", isWrite: true };
    for (const outcome of ["ok", "unknown", "failed"] as const) {
      const action = { kind: "put", value: outcome, condition: null } as const;
      await recorder.record(request, () => Promise.resolve({ outcome, status: 200, meanings: [{ key: "k", action }] }));
    }
    const found = recorder.byKey().get("k") ?? [];
    expect(found.map(({ action, endMs }) => [(action as { value: string }).value, Number.isFinite(endMs)])).toEqual([
      ["ok", true],
      ["unknown", false],
    ]);
  });

  test("learns what a tag stands for, and notices one that stands for two states", async () => {
    const recorder = new HistoryRecorder();
    const request = { client: "c0", gateway: "gateway-1", request: "HEAD", isWrite: false };
    const seen = {
      outcome: "ok",
      status: 200,
      meanings: [{ key: "k", action: { kind: "read_tag", etag: "t" } }],
    } as const;
    await recorder.record(request, () => Promise.resolve(seen));
    expect(recorder.byKey().size).toBe(0);
    recorder.learnTag("k", "t", "a");
    expect(recorder.byKey().get("k")?.[0]?.action).toEqual({ kind: "read", value: "a" });
    recorder.learnTag("k", "t", "b");
    expect(recorder.contradictions).toHaveLength(1);
  });
});

import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { BlobId, BucketName, NodeName, ObjectKey, VersionId } from "../../../src/domain/ids.ts";
import type { Work } from "../../../src/domain/work.ts";
import { decodeWork, encodeWork, workName } from "../../../src/domain/work.ts";
import { comparable, readGolden } from "../../support/golden.ts";

const golden = readGolden(join(import.meta.dirname, "golden/work-version-1.txt"));
const object = { bucket: "default" as BucketName, key: "photos/ключ 😀.jpg" as ObjectKey };
const version = "01JD0000000000000000000001" as VersionId;
const blob = { id: `${version}.body.2` as BlobId, node: "node-3" as NodeName };
const other = { id: `${version}.cold.0` as BlobId, node: "node-3" as NodeName };

const WORKS: Readonly<Record<string, Work>> = {
  mend: { kind: "mend", urgency: 0, reason: "damaged", suspects: [blob, other], ...object },
  identify: { kind: "identify", urgency: 1, blob },
  move: { kind: "move", urgency: 2, blob, to: "node-6" as NodeName, ...object },
  collect: { kind: "collect", urgency: 2, node: blob.node, blobs: [blob, other] },
  bury: { kind: "bury", urgency: 2, version, ...object },
  keep_record: { kind: "keep_record", urgency: 2, version, ...object },
  heat: { kind: "heat", urgency: 2, version, copies: 2, ...object },
};

describe("encodeWork()", () => {
  for (const [title, work] of Object.entries(WORKS)) {
    it(`writes ${title} as it always has, and reads it back`, () => {
      expect(Buffer.from(encodeWork(work)).toString("hex")).toBe(golden.get(title)?.toString("hex"));
      expect(comparable(decodeWork(golden.get(title) as Buffer))).toEqual(comparable(work));
    });
  }

  it("refuses a format that it does not know", () => {
    expect(() => decodeWork(Buffer.from([2, 0x80]))).toThrowError(expect.objectContaining({ code: "format_unknown" }));
    expect(() => decodeWork(Buffer.alloc(0))).toThrowError(expect.objectContaining({ code: "format_unknown" }));
  });
});

describe("workName()", () => {
  it("tells pieces of work apart that are about different things", () => {
    const names = Object.values(WORKS).map(workName);
    expect(new Set(names).size).toBe(names.length);
    expect(workName({ ...(WORKS["mend"] as Work), urgency: 2 })).toBe(workName(WORKS["mend"] as Work));
  });
});

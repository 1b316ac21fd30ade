import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { decodeDescriptor, encodeDescriptor } from "../../../src/domain/blob.ts";
import { decodeIntent, encodeIntent } from "../../../src/domain/intent.ts";
import { decodeRecord, encodeRecord } from "../../../src/domain/record.ts";
import { comparable, readGolden } from "../../support/golden.ts";
import { DESCRIPTORS, INTENTS, RECORDS } from "./golden/values.ts";

const golden = readGolden(join(import.meta.dirname, "golden/version-1.txt"));

type Codec<T> = { readonly encode: (value: T) => Uint8Array; readonly decode: (bytes: Uint8Array) => T };

function describeFormat<T>(name: string, codec: Codec<T>, values: Readonly<Record<string, T>>): void {
  describe(name, () => {
    for (const [title, value] of Object.entries(values)) {
      it(`encodes ${title} to the bytes of version 1`, () => {
        expect(Buffer.from(codec.encode(value)).toString("hex")).toBe(golden.get(title)?.toString("hex"));
      });

      it(`decodes ${title} of version 1`, () => {
        const bytes = golden.get(title) as Buffer;
        expect(comparable(codec.decode(bytes))).toEqual(comparable(value));
        // Nodes and networks give bytes that do not begin at the start of their memory.
        const within = Buffer.concat([Buffer.from("before"), bytes, Buffer.from("behind")]);
        expect(comparable(codec.decode(within.subarray(6, -6)))).toEqual(comparable(value));
      });

      it(`refuses ${title} with another version byte`, () => {
        for (const version of [0, 2, 255]) {
          const bytes = Buffer.from(golden.get(title) as Buffer);
          bytes[0] = version;
          expect(() => codec.decode(bytes)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
        }
      });
    }

    it("refuses no bytes at all", () => {
      expect(() => codec.decode(Buffer.alloc(0))).toThrowError(expect.objectContaining({ code: "format_unknown" }));
    });
  });
}

describeFormat("record", { encode: encodeRecord, decode: decodeRecord }, RECORDS);
describeFormat("descriptor", { encode: encodeDescriptor, decode: decodeDescriptor }, DESCRIPTORS);
describeFormat("intent", { encode: encodeIntent, decode: decodeIntent }, INTENTS);

describe("golden/version-1.txt", () => {
  it("has no bytes that nothing reads", () => {
    const titles = [RECORDS, DESCRIPTORS, INTENTS].flatMap((values) => Object.keys(values));
    expect([...golden.keys()].sort()).toEqual(titles.sort());
  });
});

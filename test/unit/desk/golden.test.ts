import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  controlsCodec,
  deskAnswerCodec,
  deskRequestCodec,
  drainingCodec,
  ledgerCodec,
  reportsCodec,
} from "../../../src/desk/healing-codec.ts";
import type { MessageCodec } from "../../../src/domain/message-codec.ts";
import { comparable, readGolden } from "../../support/golden.ts";
import { ANSWERS, CONTROLS, DRAINING, LEDGERS, REPORTS, REQUESTS } from "./golden/values.ts";

const golden = readGolden(join(import.meta.dirname, "golden/version-1.txt"));

function describeMessage<T>(name: string, codec: MessageCodec<T>, values: Readonly<Record<string, T>>): void {
  describe(name, () => {
    for (const [title, value] of Object.entries(values)) {
      it(`encodes ${title} to the bytes of version 1`, () => {
        expect(Buffer.from(codec.encode(value)).toString("hex")).toBe(golden.get(title)?.toString("hex"));
      });

      it(`decodes ${title} of version 1`, () => {
        expect(comparable(codec.decode(golden.get(title) as Buffer))).toEqual(comparable(value));
      });

      it(`refuses ${title} with another version byte or cut short`, () => {
        const bytes = golden.get(title) as Buffer;
        const newer = Buffer.concat([Buffer.from([2]), bytes.subarray(1)]);
        for (const each of [newer, bytes.subarray(0, bytes.length - 3), Buffer.alloc(0)]) {
          expect(() => codec.decode(each)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
        }
      });
    }
  });
}

describeMessage("controls", controlsCodec, CONTROLS);
describeMessage("ledger", ledgerCodec, LEDGERS);
describeMessage("request to the desk", deskRequestCodec, REQUESTS);
describeMessage("answer of the desk", deskAnswerCodec, ANSWERS);
describeMessage("draining nodes", drainingCodec, DRAINING);
describeMessage("reports of tracks", reportsCodec, REPORTS);

describe("controls", () => {
  it("leave out a track that only a newer process knows", () => {
    const newer = controlsCodec.encode({ ...CONTROLS["controls of two tracks"], dance: 1 } as never);
    expect(controlsCodec.decode(newer)).toEqual(CONTROLS["controls of two tracks"]);
  });
});

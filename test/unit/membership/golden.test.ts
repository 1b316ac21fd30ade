import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { heartbeatCodec, memberCodec, newsCodec } from "../../../src/membership/member-messages.ts";
import type { MessageCodec } from "../../../src/domain/message-codec.ts";
import { clusterSettingsCodec } from "../../../src/membership/nats-cluster-settings.ts";
import { pinAnnouncementCodec } from "../../../src/membership/pin-announcement.ts";
import { comparable, readGolden } from "../../support/golden.ts";
import { HEARTBEATS, MEMBERS, NEWS, PINS, SETTINGS } from "./golden/values.ts";

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

      it(`refuses ${title} with another version byte, cut short, or with something else inside`, () => {
        const bytes = golden.get(title) as Buffer;
        const broken = [
          Buffer.concat([Buffer.from([2]), bytes.subarray(1)]),
          bytes.subarray(0, bytes.length - 3),
          Buffer.from([1, 0xc0]),
          Buffer.from([1]),
          Buffer.alloc(0),
        ];
        for (const each of broken) {
          expect(() => codec.decode(each)).toThrowError(expect.objectContaining({ code: "format_unknown" }));
        }
      });
    }
  });
}

describeMessage("register entry", memberCodec, MEMBERS);
describeMessage("news", newsCodec, NEWS);
describeMessage("heartbeat", heartbeatCodec, HEARTBEATS);
describeMessage("pins", pinAnnouncementCodec, PINS);
describeMessage("cluster settings", clusterSettingsCodec, SETTINGS);

describe("heartbeat", () => {
  it("takes a state that only a newer process knows as a reason for doubt", () => {
    const { state: _state, ...known } = HEARTBEATS["a heartbeat"]!;
    const newer = heartbeatCodec.encode({ ...known, state: "resting" as "live" });
    expect(heartbeatCodec.decode(newer)).toEqual({ ...known, state: "suspect" });
  });
});

describe("golden/version-1.txt", () => {
  it("has no bytes that nothing reads", () => {
    const titles = [MEMBERS, NEWS, HEARTBEATS, PINS, SETTINGS].flatMap((values) => Object.keys(values));
    expect([...golden.keys()].sort()).toEqual(titles.sort());
  });
});

import { describe, expect, test } from "vitest";
import { TELEMETRY_BYTES, telemetryDocument, telemetryPatch } from "../support/telemetry.ts";

describe("telemetryDocument()", () => {
  test("gives the same bytes for the same seed and others for another", () => {
    expect(telemetryDocument({ seed: 3 }).equals(telemetryDocument({ seed: 3 }))).toBe(true);
    expect(telemetryDocument({ seed: 3 }).equals(telemetryDocument({ seed: 4 }))).toBe(false);
  });

  test("is a JSON object of about the size asked for, with the common hot fields on top", () => {
    const bytes = telemetryDocument();
    expect(bytes.length).toBeGreaterThanOrEqual(TELEMETRY_BYTES);
    expect(bytes.length).toBeLessThan(TELEMETRY_BYTES + 1_000);
    const document = JSON.parse(bytes.toString()) as Record<string, unknown>;
    expect(Object.keys(document).slice(0, 5)).toEqual([
      "device_id",
      "battery_level",
      "status_code",
      "is_active",
      "last_sync_ts",
    ]);
    expect(document["readings"]).toBeInstanceOf(Array);
  });
});

describe("telemetryPatch()", () => {
  test("changes with every step and names only fields the document has", () => {
    const document = JSON.parse(telemetryDocument({ bytesMin: 0 }).toString()) as object;
    for (let step = 0; step < 10; step++) {
      const patch = JSON.parse(telemetryPatch(step).toString()) as object;
      expect(Object.keys(document)).toEqual(expect.arrayContaining(Object.keys(patch)));
      expect(telemetryPatch(step).equals(telemetryPatch(step + 1))).toBe(false);
    }
  });
});

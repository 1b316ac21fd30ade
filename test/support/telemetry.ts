/**
 * Documents like those a fleet of devices sends: a few small fields that change all the time, at the top level, and a
 * bulk of nested readings that hardly ever does. The same seed gives the same bytes on every machine and runtime.
 */
export type TelemetryOptions = {
  readonly seed: number;
  /** The document gets at least this long, by less than one reading more. */
  readonly bytesMin: number;
};

/** The size that the storage overhead and patch rows of the benchmark are stated for. */
export const TELEMETRY_BYTES = 800_000;

/** UTF-8 bytes of one JSON document, about `TELEMETRY_BYTES` long unless told otherwise. */
export function telemetryDocument(options: Partial<TelemetryOptions> = {}): Buffer {
  const { seed = 1, bytesMin = TELEMETRY_BYTES } = options;
  const random = sequence(seed);
  const parts = [head(seed, random)];
  let bytes = parts[0]?.length ?? 0;
  for (let index = 0; bytes < bytesMin; index++) {
    const text = `${index === 0 ? "" : ",\n"}    ${reading(index, random)}`;
    parts.push(text);
    bytes += text.length; // every character is ASCII
  }
  parts.push("\n  ]\n}\n");
  return Buffer.from(parts.join(""));
}

/** The part that changes: what a device sends in a patch. */
export function telemetryPatch(step: number): Buffer {
  return Buffer.from(
    JSON.stringify({
      battery_level: step % 101,
      status_code: 200 + (step % 5),
      is_active: step % 2 === 0,
      last_sync_ts: 1_760_000_000_000 + step,
    }),
  );
}

function head(seed: number, random: () => number): string {
  return [
    "{",
    `  "device_id": "device-${String(seed).padStart(6, "0")}",`,
    `  "battery_level": ${Math.floor(random() * 101)},`,
    `  "status_code": 200,`,
    `  "is_active": true,`,
    `  "last_sync_ts": ${1_760_000_000_000 + seed},`,
    `  "firmware_version": "4.${seed % 20}.${seed % 7}",`,
    `  "view_count": ${Math.floor(random() * 1e6)},`,
    `  "like_count": ${Math.floor(random() * 1e4)},`,
    `  "user_id": "user-${Math.floor(random() * 1e9)}",`,
    `  "site": { "region": "eu-north", "building": ${seed % 40}, "rack": "r${seed % 12}" },`,
    `  "calibration": [1.0, 1e-3, ${random()}, 9007199254740993, -0.0],`,
    `  "readings": [`,
    "",
  ].join("\n");
}

function reading(index: number, random: () => number): string {
  return JSON.stringify({
    sequence: index,
    at_ms: 1_760_000_000_000 + index * 250,
    sensor: `s-${Math.floor(random() * 64)}`,
    temperature_c: Math.round(random() * 60_000) / 1_000 - 20,
    humidity: random(),
    position: { lat: random() * 180 - 90, lon: random() * 360 - 180, fix: random() > 0.1 },
    vibration: [random(), random(), random()],
    note: random() > 0.95 ? 'threshold "high" crossed\\reset' : null,
  });
}

/** Mulberry32: small, fast, and the same everywhere. */
function sequence(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** A mixed run: 1,000 objects of all sizes and strategies, written, read back and compared, deleted. All must succeed. */
import { createHash } from "node:crypto";
import type { Row } from "../row.ts";
import { startStore } from "../server-process.ts";
import { median } from "../statistics.ts";
import { getBytes, putObject } from "../store-client.ts";
import { telemetryDocument } from "../../test/support/telemetry.ts";

const OBJECTS = 1_000;
const AT_ONCE = 16;
const SIZES = [0, 1, 100, 1_024, 4_096, 20_000, 100_000, 300_000];
const STRATEGIES = ["auto", "replication", "ec", "field_hybrid", "inline"] as const;
const INLINE_BYTES_MAX = 1_024;

export const thousandObjects: Row = {
  name: "objects-1000",
  title: "1,000 objects written, read, deleted",
  runtimes: ["node"],
  async run(context) {
    const store = await startStore(context.runtime, context.directory);
    const latencies: number[] = [];
    const failures: string[] = [];
    const startedAt = performance.now();
    let next = 0;
    const worker = async () => {
      while (next < OBJECTS) {
        const index = next++;
        const from = performance.now();
        await roundTrip(store.url, index).catch((cause: unknown) => failures.push(String(cause)));
        latencies.push(performance.now() - from);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    const seconds = (performance.now() - startedAt) / 1_000;
    await store.stop();
    return {
      measured: [
        { label: "success", value: ((OBJECTS - failures.length) / OBJECTS) * 100, unit: "%" },
        { label: "objects", value: OBJECTS / seconds, unit: "/s" },
        { label: "write + read + delete, p50", value: median(latencies), unit: "ms" },
      ],
      yardsticks: [],
      aims: [{ text: "100 % success", met: failures.length === 0 }],
      notes: failures.slice(0, 3),
    };
  },
};

async function roundTrip(url: string, index: number): Promise<void> {
  const path = `/objects/mixed/${index}`;
  const { strategy, body } = objectOf(index);
  await putObject(url, `${path}?strategy=${strategy}`, body, "application/json");
  const read = await getBytes(url, path);
  if (!read.equals(body)) throw new Error(`${path} (${strategy}): ${sha256(body)} went in, ${sha256(read)} came out`);
  const deleted = await fetch(new URL(path, url), { method: "DELETE" });
  await deleted.arrayBuffer();
  if (!deleted.ok) throw new Error(`DELETE ${path} was answered ${deleted.status}`);
  const gone = await fetch(new URL(path, url));
  await gone.arrayBuffer();
  if (gone.status !== 404) throw new Error(`GET ${path} after its deletion was answered ${gone.status}`);
}

function objectOf(index: number): { strategy: string; body: Buffer } {
  const strategy = STRATEGIES[index % STRATEGIES.length] ?? "auto";
  const bytes = SIZES[Math.floor(index / STRATEGIES.length) % SIZES.length] ?? 0;
  if (strategy === "field_hybrid") return { strategy, body: telemetryDocument({ seed: index, bytesMin: bytes }) };
  const size = strategy === "inline" ? Math.min(bytes, INLINE_BYTES_MAX) : bytes;
  return { strategy, body: Buffer.alloc(size, `${index} `) };
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

import type { TestStore } from "./store.ts";
import { noise, streamOf } from "./store.ts";

const COMMIT_STEPS = ["put.quorum-durable", "put.committed", "put.settled"] as const;
const INLINE_STEPS = ["put.parsed", "put.intent-durable", ...COMMIT_STEPS];
const PUT_STEPS = {
  inline: INLINE_STEPS,
  replication: [
    "put.parsed",
    "put.intent-durable",
    "put.encoded",
    "put.cell-sent",
    "put.cell-sent:2",
    "put.cell-sent:3",
    ...COMMIT_STEPS,
  ],
  ec: [
    "put.parsed",
    "put.encoded",
    "put.intent-durable",
    ...[1, 2, 4, 5, 6, 8, 18].map((count) => `put.cell-sent:${count}`),
    ...COMMIT_STEPS,
  ],
  field_hybrid: [
    "put.parsed",
    "put.encoded",
    "put.intent-durable",
    "put.cell-sent:3",
    "put.cell-sent:6",
    ...COMMIT_STEPS,
  ],
} as const;

const BIG = 9_000_000;
const json = (battery: number, cold: number) =>
  Buffer.from(`{"device_id": "d", "battery_level": ${battery}, "pad": "${"x".repeat(200_000)}", "cold": ${cold}}`);

export type CrashWrite = {
  readonly steps: readonly string[];
  /** The key's bytes before and after; null for none. */
  readonly before: Buffer | null;
  readonly after: Buffer | null;
  prepare(store: TestStore): Promise<unknown>;
  write(store: TestStore): Promise<unknown>;
};

function put(
  before: Buffer | null,
  after: Buffer,
  strategy: "inline" | "replication" | "ec" | "field_hybrid",
): CrashWrite {
  return {
    steps: PUT_STEPS[strategy],
    before,
    after,
    prepare: async (store) => before && (await store.put("k", before)),
    write: (store) => store.put("k", streamOf(after, [65_536]), { strategy }),
  };
}

function patch(document: Buffer, merge: string, after: Buffer, steps: readonly string[]): CrashWrite {
  return {
    steps,
    before: document,
    after,
    prepare: (store) => store.put("k", document),
    write: (store) => store.patch("k", merge),
  };
}

/** Every kind of write there is, each with the steps at which it may die. */
export const CRASH_WRITES = {
  "new inline": put(null, noise(100, 2), "inline"),
  "inline over copies": put(noise(5_000, 1), noise(100, 2), "inline"),
  "new copies": put(null, noise(5_000, 2), "replication"),
  "copies over shards": put(noise(300_000, 1), noise(5_000, 2), "replication"),
  "new shards": put(null, noise(BIG, 2), "ec"),
  "shards over copies": put(noise(5_000, 1), noise(BIG, 2), "ec"),
  "small shards over small shards": put(noise(100_000, 1), noise(110_000, 2), "ec"),
  "new split document": put(null, json(1, 1), "field_hybrid"),
  "split document over another": put(json(1, 1), json(2, 2), "field_hybrid"),
  "hot update": put(json(1, 1), json(2, 1), "field_hybrid"),
  "hot patch": patch(json(1, 1), '{"battery_level": 2}', json(2, 1), ["patch.parsed", "patch.committed"]),
  "cold patch": patch(json(1, 1), '{"cold": 2}', json(1, 2), ["patch.parsed", ...PUT_STEPS.field_hybrid.slice(1)]),
  delete: {
    steps: ["delete.parsed", "delete.committed"],
    before: noise(300_000, 1),
    after: null,
    prepare: (store) => store.put("k", noise(300_000, 1), { strategy: "ec" }),
    write: (store) => store.remove("k"),
  },
  undelete: {
    steps: ["undelete.parsed", "undelete.committed"],
    before: null,
    after: noise(300_000, 1),
    async prepare(store) {
      await store.put("k", noise(300_000, 1), { strategy: "ec" });
      await store.remove("k");
    },
    write: (store) => store.undelete("k"),
  },
} satisfies Record<string, CrashWrite>;

import { describe, expect, it } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import type { Cell } from "../../../src/domain/blob.ts";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { StrategyChoice } from "../../../src/domain/manifest.ts";
import type { Random } from "../../../src/lib/random.ts";
import { getObject } from "../../../src/object/get.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore, override } from "../../support/memory-store.ts";
import { bytesOf, getRequest, noise, putRequest } from "../../support/store.ts";

/** A question that a node has not answered. */
type Hanging = {
  readonly node: NodeName;
  readonly into: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
  readonly answer: (cells: Cell[]) => void;
  readonly refuse: (cause: Error) => void;
  /** What the node would have answered. */
  readonly real: () => Promise<Cell[]>;
};

/** A store of which some nodes keep silent, like a stopped process: their connections stay open. */
function openSilent() {
  const silent = new Set<NodeName>();
  const hanging: Hanging[] = [];
  const asked: NodeName[] = [];
  const store = openMemoryStore({
    node: (real) => ({
      async readCells(id, first, count, deadline, into, signal) {
        asked.push(real.node);
        if (!silent.has(real.node)) return await real.readCells(id, first, count, deadline, into, signal);
        return await new Promise<Cell[]>((answer, refuse) => {
          const read = () => real.readCells(id, first, count, ANY_TIME, into, signal);
          hanging.push({ node: real.node, into, signal, answer, refuse, real: read });
        });
      },
    }),
  });
  return { store, silent, hanging, asked };
}

/** Fills the memory of every question that was not taken back, as an answer that comes now would. */
function answerTooLate(hanging: readonly Hanging[]): void {
  for (const { into, signal } of hanging) if (signal?.aborted !== true) into?.fill(0xee);
}

/** Asks the copies in their order. */
const FIRST: Random = { next: () => 0, bytes: () => new Uint8Array(0) };

/** A test that waits longer than this has failed. */
const TEST_MS_MAX = 60_000;

/** Reads while time passes; answers how much of it the read took. */
async function readTimed(
  { store, hanging }: { store: MemoryStore; hanging: readonly Hanging[] },
  more: { range?: { first: number; last: number } } = {},
): Promise<{ bytes: Buffer; tookMs: number }> {
  const { coder } = store.deps;
  const verifyAndDecode: typeof coder.verifyAndDecode = async (stripe, request) => {
    answerTooLate(hanging);
    const result = await coder.verifyAndDecode(stripe, request);
    answerTooLate(hanging);
    return result;
  };
  const deps = { ...store.deps, random: FIRST, coder: override(coder, { verifyAndDecode }) };
  const startMs = store.clock.monotonicMs();
  let isDone = false;
  const reading = getObject(deps, { ...getRequest("k"), range: more.range ?? null })
    .then(bytesOf)
    .finally(() => (isDone = true));
  reading.catch(() => {});
  for (;;) {
    for (let turn = 0; turn < 4 && !isDone; turn += 1) await settle();
    if (isDone) return { bytes: await reading, tookMs: store.clock.monotonicMs() - startMs };
    answerTooLate(hanging);
    store.clock.advance(5);
    if (store.clock.monotonicMs() - startMs > TEST_MS_MAX) throw new Error("the read does not end");
  }
}

const metric = async (counter: { get(): Promise<{ values: { value: number }[] }> }) =>
  (await counter.get()).values.reduce((sum, { value }) => sum + value, 0);

const CONTENTS = [
  ["packed copies", "replication", noise(5_000, 1)],
  ["streamed copies", "replication", noise(3_000_000, 2)],
  ["packed shards", "ec", noise(100_000, 3)],
  ["streamed shards", "ec", noise(9_000_000, 4)],
] as const satisfies [string, StrategyChoice, Buffer][];

/** Far less than the deadline of a wait on a node, which is 10 s. Time passes while the coder works, too. */
const SOON_MS = 2_000;

describe("getObject()", () => {
  for (const [name, strategy, bytes] of CONTENTS) {
    it(`reads ${name} without waiting for nodes that keep silent, and lets no late answer near the bytes`, async () => {
      const parts = openSilent();
      const { store, silent, hanging } = parts;
      const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy }));
      for (let first = 0; first < nodes.length; first += 1) {
        silent.clear();
        for (let count = 0; count < 2; count += 1) {
          silent.add(nodes[(first + count) % nodes.length] as NodeName);
          const read = await readTimed(parts);
          expect(read.bytes.equals(bytes), `${count + 1} silent from ${first}`).toBe(true);
          expect(read.tookMs).toBeLessThan(SOON_MS);
        }
      }
      expect(hanging.length).toBeGreaterThan(0);
      expect(
        hanging.every(({ signal }) => signal?.aborted),
        "all questions were taken back",
      ).toBe(true);
      expect(store.deps.memory.used).toBe(0);
      expect(await metric(store.deps.metrics.hedgesStarted)).toBeGreaterThan(0);
      expect(await metric(store.deps.metrics.hedgesWon)).toBeGreaterThan(0);
      for (const [at, { answer, refuse }] of hanging.entries()) {
        if (at % 2 === 0) answer([]);
        else refuse(new StoreError("node_unavailable", "The connection was closed", { retriable: true }));
      }
      await settle();
      expect(await metric(store.deps.metrics.degradedReads), "nothing is missing or damaged").toBe(0);
      expect(
        store.deps.membership.snapshot().every(({ state }) => state === "live"),
        "giving up is no failure",
      ).toBe(true);
    });
  }

  it("asks nobody twice when all answer at once, and leaves one timer for any number of reads", async () => {
    const { store, asked } = openSilent();
    await putObject(store.deps, putRequest("k", noise(3_000), { strategy: "replication" }));
    const idle = store.clock.pendingTimers;
    await Promise.all(Array.from({ length: 50 }, () => store.read("k")));
    expect(asked).toHaveLength(50);
    expect(store.clock.pendingTimers).toBeLessThanOrEqual(idle + 1);
    store.clock.advance(60_000);
    await settle();
    expect(asked).toHaveLength(50);
    expect(await metric(store.deps.metrics.hedgesStarted)).toBe(0);
  });

  it("takes the late cell after all when it comes before the one that was asked for instead", async () => {
    const parts = openSilent();
    const { store, silent, hanging } = parts;
    const bytes = noise(5_000, 5);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
    for (const node of nodes) silent.add(node);
    const reading = store.read("k");
    for (let turn = 0; turn < 100 && hanging.length < 2; turn += 1) {
      store.clock.advance(5);
      await settle();
    }
    const [late, company] = hanging as [Hanging, Hanging];
    late.answer(await late.real());
    expect((await reading)?.equals(bytes)).toBe(true);
    expect(company.signal?.aborted).toBe(true);
    expect(await metric(store.deps.metrics.hedgesWon)).toBe(0);
    store.clock.advance(60_000);
    await settle();
    await settle();
    expect(hanging, "nobody is asked for a read that is over").toHaveLength(2);
  });

  it("asks just the nodes whose cells a range is about", async () => {
    const { store, asked } = openSilent();
    const bytes = noise(5_000_000, 12);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    const range = { first: 1_100_000, last: 1_200_000 };
    const result = await getObject(store.deps, { ...getRequest("k"), range });
    expect((await bytesOf(result)).equals(bytes.subarray(range.first, range.last + 1))).toBe(true);
    expect(asked).toEqual([nodes[1]]);
  });

  it("goes back to a node that was given up when what came instead is damaged", async () => {
    const parts = openSilent();
    const { store, silent, asked, hanging } = parts;
    const bytes = noise(5_000, 13);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
    const [slow, ...others] = nodes as [NodeName, ...NodeName[]];
    for (const node of others) {
      const blobs = store.deps.nodes.get(node) as BlobStore;
      const [info] = await blobs.list("", 1, ANY_TIME);
      const id = info?.id ?? ("" as never);
      await blobs.delete([id], ANY_TIME);
      await blobs.put({ id, descriptor: Buffer.of(1), cells: [{ payload: noise(5_000, 99), checksum: 0n }] }, ANY_TIME);
    }
    silent.add(slow);
    const reading = readTimed(parts);
    for (let turn = 0; turn < 100 && hanging.length === 0; turn += 1) await settle();
    silent.clear();
    expect((await reading).bytes.equals(bytes)).toBe(true);
    expect(asked).toEqual([slow, ...others, slow]);
  });

  it("reads around a late cell that a range is about, and damage among the cells that came instead", async () => {
    const parts = openSilent();
    const { store, silent } = parts;
    const bytes = noise(5_000_000, 6);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    silent.add(nodes[1] as NodeName);
    const range = { first: 1_100_000, last: 1_200_000 };
    const whole = await readTimed(parts, { range });
    expect(whole.bytes.equals(bytes.subarray(range.first, range.last + 1))).toBe(true);
    const other = store.deps.nodes.get(nodes[4] as NodeName) as BlobStore;
    const [info] = await other.list("", 1, ANY_TIME);
    await other.delete([info?.id ?? ("" as never)], ANY_TIME);
    const around = await readTimed(parts, { range });
    expect(around.bytes.equals(bytes.subarray(range.first, range.last + 1))).toBe(true);
    expect(await metric(store.deps.metrics.degradedReads)).toBe(1);
  });

  it("asks a silent node once in a transfer, however many stripes it has", async () => {
    const parts = openSilent();
    const { store, silent, asked } = parts;
    const bytes = noise(30_000_000, 11);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    silent.add(nodes[2] as NodeName);
    expect((await readTimed(parts)).bytes.equals(bytes)).toBe(true);
    expect(asked.filter((node) => silent.has(node))).toHaveLength(1);
  });

  it("does not ask a silent node first again and again, and finds out when it is back", async () => {
    const parts = openSilent();
    const { store, silent, asked } = parts;
    const { nodes } = await putObject(store.deps, putRequest("k", noise(5_000), { strategy: "replication" }));
    const stopped = nodes[0] as NodeName;
    silent.add(stopped);
    const readMany = async (count: number) => {
      asked.length = 0;
      for (let read = 0; read < count; read += 1) await readTimed(parts);
      return asked.filter((node) => node === stopped).length;
    };
    expect(await readMany(40), "three misses are enough").toBe(3);
    expect(await readMany(40)).toBe(0);
    store.clock.advance(1_000);
    expect(await readMany(40), "one tries again").toBe(1);
    store.clock.advance(1_000);
    silent.clear();
    store.clock.advance(1_000);
    expect(await readMany(40)).toBeGreaterThan(5);
  });

  it("asks nodes that are believed to be away only when nobody else is left", async () => {
    const parts = openSilent();
    const { store, silent, asked } = parts;
    const bytes = noise(100_000, 7);
    await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    for (const away of NODE_NAMES.slice(0, 2)) store.deps.membership.report(away, "down");
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    expect(new Set(asked)).toEqual(new Set(NODE_NAMES.slice(2)));

    // A late node gets company, but not from those: it is not gone.
    silent.add("n3" as NodeName);
    asked.length = 0;
    const reading = store.read("k");
    reading.catch(() => {});
    for (let turn = 0; turn < 20; turn += 1) {
      store.clock.advance(50);
      await settle();
    }
    expect(new Set(asked)).toEqual(new Set(NODE_NAMES.slice(2)));

    store.deps.membership.report("n3" as NodeName, "down");
    store.deps.membership.report("n4" as NodeName, "fenced");
    const last = await readTimed(parts);
    expect(last.bytes.equals(bytes), "what is believed was wrong").toBe(true);
  });

  it("goes on from copy to copy where there is no memory to read two side by side", async () => {
    const parts = openSilent();
    const { store, silent } = parts;
    const bytes = noise(3_000_000, 8);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
    for (const node of nodes.slice(0, 2)) silent.add(node);
    const { limit } = store.deps.memory;
    // Room for the stripes of one read, of about 1 MiB each, and not for a cell more.
    const taken = store.deps.memory.tryAcquire(limit - 2_100_000);
    const read = await readTimed(parts);
    expect(read.bytes.equals(bytes)).toBe(true);
    expect(read.tookMs).toBeLessThan(SOON_MS);
    taken?.release();
    expect(store.deps.memory.used).toBe(0);
  });

  it("does not go from copy to copy for ever: the last one has all the time that a wait on a node has", async () => {
    const parts = openSilent();
    const { store, silent, hanging } = parts;
    const bytes = noise(1_000_000, 8);
    const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy: "replication" }));
    for (const node of nodes) silent.add(node);
    store.deps.memory.tryAcquire(store.deps.memory.limit - 1_100_000);
    const reading = store.read("k");
    for (let turn = 0; turn < 100; turn += 1) {
      store.clock.advance(50);
      await settle();
      await settle();
    }
    expect(hanging.map(({ signal }) => signal?.aborted)).toEqual([true, true, false]);
    const last = hanging[2] as Hanging;
    last.answer(await last.real());
    expect((await reading)?.equals(bytes)).toBe(true);
  });

  it("reports a node that cannot be reached as down, so that others need not find out", async () => {
    const away = new Set<NodeName>();
    const store = openMemoryStore({
      node: (real) => ({
        readCells: (...question) =>
          away.has(real.node)
            ? Promise.reject(new StoreError("node_unavailable", "refused", { retriable: true }))
            : real.readCells(...question),
      }),
    });
    const bytes = noise(100_000, 9);
    await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    away.add("n2" as NodeName);
    expect((await store.read("k"))?.equals(bytes)).toBe(true);
    expect(store.deps.membership.snapshot().find(({ name }) => name === "n2")?.state).toBe("down");
  });

  it("reads around a node that left between the choice and the question", async () => {
    const store = openMemoryStore();
    const bytes = noise(100_000, 10);
    await putObject(store.deps, putRequest("k", bytes, { strategy: "ec" }));
    const nodes = new Map(store.deps.nodes);
    nodes.delete("n1" as NodeName);
    const result = await getObject({ ...store.deps, nodes }, getRequest("k"));
    expect((await bytesOf(result)).equals(bytes)).toBe(true);
    expect(await metric(store.deps.metrics.cellsDamaged)).toBe(0);
  });
});

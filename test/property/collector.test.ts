/**
 * Random histories of one store: writes that end and writes that do not, deletes and undeletes, patches, further copies,
 * blobs that are lost and blobs that lie about; and between them audits, whose findings are worked off, and a collector
 * that is offered every blob there is. At every moment everything that was acknowledged reads as it should, and in the end
 * there is not one blob more than records name.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { StoreError } from "../../src/domain/errors.ts";
import type { BlobId, NodeName } from "../../src/domain/ids.ts";
import { KEPT_COPIES, keptBlobId, needsKeeping } from "../../src/domain/kept-record.ts";
import type { StrategyChoice } from "../../src/domain/manifest.ts";
import { blobSetsOf, placedBlobsOf } from "../../src/domain/manifest.ts";
import type { Work } from "../../src/domain/work.ts";
import { createAudit } from "../../src/healer/audit.ts";
import { createBuryExecutor } from "../../src/healer/bury.ts";
import { createCollectMetrics } from "../../src/healer/collect-metrics.ts";
import { createCollectExecutor } from "../../src/healer/collect.ts";
import { createHeatExecutor } from "../../src/healer/hot-copies.ts";
import { createKeepExecutor } from "../../src/healer/keep-record.ts";
import { createMendExecutor } from "../../src/healer/mend.ts";
import { createMendMetrics } from "../../src/healer/mend-metrics.ts";
import type { WorkOutcome } from "../../src/healer/work-executor.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Throttle } from "../../src/lib/throttle.ts";
import { deleteObject } from "../../src/object/delete.ts";
import { ObjectPatcher } from "../../src/object/patch.ts";
import { putObject } from "../../src/object/put.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import { undeleteObject } from "../../src/object/undelete.ts";
import { createMemoryWorkQueue } from "../../src/work/memory-work-queue.ts";
import { settle } from "../support/manual-clock.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore } from "../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../support/store.ts";

const going = { signal: new AbortController().signal };
const ORPHAN_GRACE_MS = 10_000;
const UNDELETE_MS = 40_000;
const KEYS = ["a", "b", "c"];

type Step =
  | { readonly do: "put"; readonly key: string; readonly strategy: StrategyChoice; readonly seed: number }
  /** Between the sealing of its blobs and its commit the collector comes by. */
  | { readonly do: "put slowly"; readonly key: string; readonly strategy: StrategyChoice; readonly seed: number }
  | { readonly do: "die while writing"; readonly key: string; readonly strategy: StrategyChoice; readonly seed: number }
  | { readonly do: "patch" | "delete" | "undelete" | "heat" | "cool"; readonly key: string }
  /** One blob of an object that is whole: less than it can lose. */
  | { readonly do: "lose" | "stray"; readonly key: string; readonly at: number }
  | { readonly do: "wait"; readonly ms: number }
  /** The collector is asked about everything, whatever an audit would say: its own look has to suffice. */
  | { readonly do: "offer" }
  | { readonly do: "recover" }
  | { readonly do: "heal" };

const key = fc.constantFrom(...KEYS);
const strategy = fc.constantFrom<StrategyChoice[]>("inline", "replication", "ec", "field_hybrid");
const seed = fc.integer({ min: 1, max: 1_000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("put" as const), key, strategy, seed }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("put slowly" as const), key, strategy, seed }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("die while writing" as const), key, strategy, seed }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom("patch", "delete", "undelete", "heat", "cool"),
      key,
    }) as fc.Arbitrary<Step>,
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom("lose", "stray"), key, at: fc.nat(40) }) as fc.Arbitrary<Step>,
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1_000, 12_000, 45_000) }) },
  { weight: 4, arbitrary: fc.constantFrom({ do: "heal" as const }, { do: "offer" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "recover" as const }) },
);

class World {
  readonly #scratch = mkdtempSync(join(tmpdir(), "kintsugi-audit-"));
  #isDying = false;
  #beforeCommit: (() => Promise<void>) | null = null;
  readonly store = openMemoryStore({
    metadata: (real) => ({
      commit: async (change, deadline) => {
        if (this.#isDying) throw new StoreError("metadata_unavailable", "The writer is dead");
        const first = this.#beforeCommit;
        this.#beforeCommit = null;
        await first?.();
        return await real.commit(change, deadline);
      },
    }),
  });
  readonly #queue = createMemoryWorkQueue({ clock: this.store.clock });
  readonly #metrics = createCollectMetrics(new Registry());
  readonly #healing = {
    ...this.store.deps,
    ...{ collectMetrics: this.#metrics, mendMetrics: createMendMetrics(new Registry()) },
    ...{ throttle: new Throttle(this.store.clock, null), isLost: () => false, undeleteMs: UNDELETE_MS, bytesMax: 1e9 },
  };
  readonly #audit = createAudit({
    ...this.store.deps,
    ...{ queue: this.#queue, logger: silentLogger, scratchPath: join(this.#scratch, "audit"), isLost: () => false },
    ...{ orphanGraceMs: ORPHAN_GRACE_MS, undeleteMs: UNDELETE_MS },
  });
  readonly #collect = createCollectExecutor(this.#healing);
  readonly #bury = createBuryExecutor(this.#healing);
  readonly #mend = createMendExecutor(this.#healing);
  readonly #keep = createKeepExecutor(this.#healing);
  readonly #heat = createHeatExecutor(this.#healing);
  readonly #patcher = new ObjectPatcher(this.store.deps);
  /** What each key is to read as; null: nothing. */
  readonly expected = new Map<string, Buffer | null>(KEYS.map((name) => [name, null]));
  /** What an undelete is to bring back. */
  readonly #deleted = new Map<string, { readonly bytes: Buffer; readonly atMs: number }>();
  #wounded = new Set<string>();
  /** What writers left when they died: recovery ends it either way. */
  #undecided: { readonly name: string; readonly bytes: Buffer }[] = [];

  async take(next: Step): Promise<void> {
    const { deps, clock } = this.store;
    switch (next.do) {
      case "put": {
        const bytes = contentOf(next.strategy, next.seed);
        await putObject(deps, putRequest(next.key, bytes, { strategy: next.strategy }));
        this.#set(next.key, bytes);
        break;
      }
      case "put slowly": {
        const bytes = contentOf(next.strategy, next.seed);
        this.#beforeCommit = () => this.offer();
        await putObject(deps, putRequest(next.key, bytes, { strategy: next.strategy }));
        this.#set(next.key, bytes);
        break;
      }
      case "die while writing": {
        this.#isDying = true;
        const bytes = contentOf(next.strategy, next.seed);
        await putObject(deps, putRequest(next.key, bytes, { strategy: next.strategy })).catch(() => {});
        this.#isDying = false;
        this.#undecided.push({ name: next.key, bytes });
        break;
      }
      case "patch":
        await this.#patch(next.key);
        break;
      case "delete": {
        const bytes = this.expected.get(next.key) ?? null;
        const { existed } = await deleteObject(deps, addressOf(next.key));
        expect(existed).toBe(bytes !== null);
        if (bytes === null) break;
        this.#set(next.key, null);
        this.#deleted.set(next.key, { bytes, atMs: clock.wallMs() });
        break;
      }
      case "undelete":
        await this.#undelete(next.key);
        break;
      case "heat":
      case "cool": {
        const stored = await this.#recordOf(next.key);
        if (stored === null) break;
        const work = { kind: "heat", urgency: 2, bucket: BUCKET, key: keyOf(next.key) } as const;
        await this.#heat({ ...work, version: stored.version, copies: next.do === "heat" ? 2 : 0 }, going);
        break;
      }
      case "lose":
      case "stray":
        await this.#misplace(next);
        break;
      case "wait":
        clock.advance(next.ms);
        break;
      case "offer":
        await this.offer();
        break;
      case "recover":
        await this.#recover();
        break;
      case "heal":
        await this.heal();
    }
    await settle();
  }

  /** An audit, all that follows from it, and a round of recovery. */
  async heal(): Promise<void> {
    this.store.clock.advance(ORPHAN_GRACE_MS + 2_000);
    await settle();
    const report = this.#audit.request({ kind: "all" });
    let isOver = false;
    void report.then(() => (isOver = true));
    while (!isOver) await this.#audit.step(going.signal);
    expect((await report).again).toBe(false);
    for (let delivery = await this.#queue.take(0, going.signal); delivery !== null;) {
      const outcome = await this.#work(delivery.work);
      if (outcome.outcome === "done") await delivery.done();
      else await delivery.later(Math.max(1, outcome.inMs));
      delivery = await this.#queue.take(0, going.signal);
    }
    await settle();
    await this.#recover();
    this.#wounded = new Set();
  }

  /** Asks the collector about every blob there is. */
  async offer(): Promise<void> {
    const blobs = (await this.store.blobs()).map((blob) => {
      const [id, node] = blob.split("@") as [BlobId, NodeName];
      return { id, node };
    });
    for (const node of NODE_NAMES) {
      const held = blobs.filter((blob) => blob.node === node);
      await this.#collect({ kind: "collect", urgency: 2, node, blobs: held }, going);
    }
  }

  async #recover(): Promise<void> {
    await this.store.recover();
    for (const { name, bytes } of this.#undecided) {
      const now = await this.store.read(name);
      if (now?.equals(bytes) === true) this.#set(name, bytes);
    }
    this.#undecided = [];
  }

  async expectRight(): Promise<void> {
    for (const [name, bytes] of this.expected) {
      const found = await this.store.read(name);
      expect(found === null ? null : found.equals(bytes ?? Buffer.alloc(0)), name).toBe(bytes === null ? null : true);
    }
  }

  async expectTidy(): Promise<void> {
    const kept: string[] = [];
    for (const { record } of await this.store.realMetadata.scan(null, 100, ANY_TIME)) {
      if (!needsKeeping(record)) continue;
      const ids = new Set(
        Array.from({ length: KEPT_COPIES }, (_, index) => keptBlobId(record.version, index) as string),
      );
      const found = (await this.store.blobs()).filter((blob) => ids.has(blob.split("@")[0] as string));
      expect(new Set(found.map((blob) => blob.split("@")[1])).size, "kept records").toBe(KEPT_COPIES);
      kept.push(...found);
    }
    expect(await this.store.blobs()).toEqual([...(await this.store.namedBlobs()), ...kept].sort());
    expect(await this.store.openIntents()).toEqual([]);
  }

  async close(): Promise<void> {
    await this.#audit[Symbol.asyncDispose]();
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #set(name: string, bytes: Buffer | null): void {
    this.expected.set(name, bytes);
    this.#deleted.delete(name);
    this.#wounded.delete(name);
  }

  async #recordOf(name: string) {
    return (await this.store.realMetadata.get(BUCKET, keyOf(name), ANY_TIME))?.record ?? null;
  }

  async #patch(name: string): Promise<void> {
    const before = this.expected.get(name) ?? null;
    if (before === null || before[0] !== 0x7b) return;
    const battery = (JSON.parse(before.toString()) as { battery: number }).battery + 1;
    const patch = Buffer.from(JSON.stringify({ battery }));
    await this.#patcher.patch({ ...addressOf(name), patch, consistency: null });
    const after = (await this.store.read(name)) as Buffer;
    expect(JSON.parse(after.toString())).toEqual({ ...(JSON.parse(before.toString()) as object), battery });
    // What it lost it has lost still: the cold part is the same.
    this.expected.set(name, after);
  }

  async #undelete(name: string): Promise<void> {
    const deleted = this.#deleted.get(name);
    try {
      await undeleteObject(this.store.deps, addressOf(name));
      expect(deleted, "there was something to bring back").toBeDefined();
      this.#set(name, deleted?.bytes ?? null);
    } catch (cause) {
      if (!(cause instanceof StoreError)) throw cause;
      const isOver = deleted === undefined || this.store.clock.wallMs() - deleted.atMs >= UNDELETE_MS;
      expect(isOver, `${cause.code} although it was deleted a moment ago`).toBe(true);
    }
  }

  async #misplace({ do: kind, key: name, at }: Step & { readonly do: "lose" | "stray" }): Promise<void> {
    const record = await this.#recordOf(name);
    const placed = record === null ? [] : blobSetsOf(record.manifest).flatMap(placedBlobsOf);
    const blob = placed[at % Math.max(1, placed.length)];
    if (blob === undefined) return;
    const from = this.store.deps.nodes.get(blob.node)!;
    if (kind === "stray") {
      const to = this.store.deps.nodes.get(NODE_NAMES[at % NODE_NAMES.length] as NodeName)!;
      const found = await from.describe(blob.id, ANY_TIME);
      if (found === null || (await to.describe(blob.id, ANY_TIME)) !== null) return;
      const cells = await from.readCells(blob.id, 0, found.info.cellCount, ANY_TIME);
      // A node takes no blob that it was told to delete; then there is no stray.
      await to.put({ id: blob.id, descriptor: found.descriptor, cells }, ANY_TIME).catch(() => {});
      return;
    }
    if (this.#wounded.has(name)) return;
    this.#wounded.add(name);
    await from.delete([blob.id], ANY_TIME);
  }

  async #work(work: Work): Promise<WorkOutcome> {
    switch (work.kind) {
      case "collect":
        return await this.#collect(work, going);
      case "bury":
        return await this.#bury(work, going);
      case "mend":
        return await this.#mend(work, going);
      case "keep_record":
        return await this.#keep(work, going);
      default:
        throw new Error(`an audit asks for no ${work.kind}`);
    }
  }
}

function addressOf(name: string) {
  return { bucket: BUCKET, key: keyOf(name), preconditions: NO_PRECONDITIONS };
}

function contentOf(choice: StrategyChoice, from: number): Buffer {
  if (choice === "inline") return noise(100 + from, from);
  if (choice === "field_hybrid") return Buffer.from(`{"battery":${from},"pad":"${"x".repeat(20_000 + from)}"}`);
  return noise(30_000 + from, from);
}

test("nothing that anybody needs is ever collected, and nothing else stays", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const world = new World();
      try {
        for (const next of steps) {
          await world.take(next);
          await world.expectRight();
        }
        world.store.clock.advance(UNDELETE_MS);
        for (let round = 0; round < 6; round += 1) await world.heal();
        await world.offer();
        await world.expectRight();
        await world.expectTidy();
      } finally {
        await world.close();
      }
    }),
    { numRuns: 120 },
  );
}, 120_000);

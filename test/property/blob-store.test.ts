import fc from "fast-check";
import { expect, test } from "vitest";
import type { BlobWriter } from "../../src/blob/blob-store.ts";
import type { LocalBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import type { BlobDirectory } from "../support/blob-directory.ts";
import { makeBlobDirectory } from "../support/blob-directory.ts";
import {
  COMPACT_ALL,
  cellBytes,
  descriptorOf,
  listIds,
  nextBlobId,
  readWhole,
  smallBlob,
  soon,
  WAIT_MS,
} from "../support/blobs.ts";

const SLOTS = 6;

/** What one blob of the model is: lengths of its cells, or an open writer with the lengths written so far. */
type Model = {
  readonly sealed: Map<number, number[]>;
  readonly writing: Map<number, { writer: BlobWriter; lengths: number[] }>;
  /** Deleted before they were there: kept away until the store is opened anew. */
  readonly barred: Set<number>;
};

class Driver {
  readonly #directory: BlobDirectory;
  readonly #ids: BlobId[] = Array.from({ length: SLOTS }, () => nextBlobId());
  readonly #model: Model = { sealed: new Map(), writing: new Map(), barred: new Set() };
  #compacting: Promise<void> = Promise.resolve();
  store: LocalBlobStore;

  constructor(directory: BlobDirectory, store: LocalBlobStore) {
    this.#directory = directory;
    this.store = store;
  }

  #id(slot: number): BlobId {
    return this.#ids[slot] as BlobId;
  }

  async put(slot: number, lengths: number[]): Promise<void> {
    if (this.#model.writing.has(slot)) return;
    const stored = this.store.put(smallBlob(this.#id(slot), ...lengths), soon());
    if (this.#isKeptAway(slot)) return await expectBarred(stored);
    await stored;
    if (!this.#model.sealed.has(slot)) this.#model.sealed.set(slot, lengths);
  }

  async write(slot: number, lengths: number[]): Promise<void> {
    if (this.#model.sealed.has(slot)) return;
    const id = this.#id(slot);
    let open = this.#model.writing.get(slot);
    if (open === undefined) {
      if (this.#isKeptAway(slot)) return await expectBarred(this.store.openWriter(id, WAIT_MS));
      open = { writer: await this.store.openWriter(id, WAIT_MS), lengths: [] };
      this.#model.writing.set(slot, open);
    }
    const { writer } = open;
    const first = open.lengths.length;
    open.lengths.push(...lengths);
    await Promise.all(
      lengths.map((length, n) => {
        const payload = cellBytes(id, first + n, length);
        return writer.writeCell(first + n, payload, cellChecksum(payload, id, first + n));
      }),
    );
  }

  async seal(slot: number): Promise<void> {
    const open = this.#model.writing.get(slot);
    if (open === undefined) return;
    const sealed = open.writer.seal(descriptorOf(this.#id(slot)));
    if (this.#isKeptAway(slot)) {
      await expectBarred(sealed);
      return await this.abort(slot);
    }
    await sealed;
    this.#model.writing.delete(slot);
    this.#model.sealed.set(slot, open.lengths);
  }

  async abort(slot: number): Promise<void> {
    await this.#model.writing.get(slot)?.writer.abort();
    this.#model.writing.delete(slot);
  }

  async removePresent(slots: number[]): Promise<void> {
    await this.remove(slots.filter((slot) => this.#model.sealed.has(slot)));
  }

  async remove(slots: number[]): Promise<void> {
    for (const slot of slots) if (!this.#model.sealed.has(slot)) this.#model.barred.add(slot);
    const present = new Set(slots.filter((slot) => this.#model.sealed.has(slot)));
    const ids = slots.map((slot) => this.#id(slot));
    const removed = await this.store.delete(ids, soon());
    if (removed !== present.size) throw new Error(`delete() answered ${removed} where ${present.size} blobs were`);
    for (const slot of slots) this.#model.sealed.delete(slot);
  }

  /** Goes on beside what comes next. */
  async compact(steps: number): Promise<void> {
    await this.#compacting;
    const { compaction } = this.store;
    this.#compacting = (async () => {
      for (let n = 0; n < steps; n += 1) await compaction.step(COMPACT_ALL);
    })();
  }

  async reopen(): Promise<void> {
    await this.#compacting;
    this.store = await this.#directory.open();
    this.#model.writing.clear();
    this.#model.barred.clear();
  }

  #isKeptAway(slot: number): boolean {
    return this.#model.barred.has(slot) && !this.#model.sealed.has(slot);
  }

  /** What the store says of everything it holds and of what it should not hold. */
  async actual(): Promise<unknown> {
    await this.#compacting;
    const blobs: unknown[] = [];
    for (const id of await listIds(this.store, 2)) {
      const info = (await this.store.describe(id, soon()))?.info;
      const cells = await readWhole(this.store, id);
      const damages = await this.store.verify(id, soon());
      blobs.push([id, info?.cellCount, info?.payloadBytes, cells, damages.length]);
    }
    const unknown: BlobId[] = [];
    for (const id of this.#ids) if ((await this.store.describe(id, soon())) === null) unknown.push(id);
    const { blobCount, liveBytes } = await this.store.usage();
    return { blobs, unknown, blobCount, liveBytes };
  }

  /** The same from the model. */
  expected(): unknown {
    const slots = [...this.#model.sealed.keys()].sort((a, b) => a - b);
    const sum = (lengths: number[]) => lengths.reduce((total, length) => total + length, 0);
    const blobs = slots.map((slot) => {
      const lengths = this.#model.sealed.get(slot) as number[];
      return [this.#id(slot), lengths.length, sum(lengths), lengths.length, 0];
    });
    const unknown = this.#ids.filter((_, slot) => !this.#model.sealed.has(slot));
    const liveBytes = sum([...this.#model.sealed.values()].map(sum));
    return { blobs, unknown, blobCount: slots.length, liveBytes };
  }
}

async function expectBarred(work: Promise<unknown>): Promise<void> {
  await expect(work).rejects.toMatchObject({ code: "write_conflict" });
}

const slot = fc.nat({ max: SLOTS - 1 });
const smallLengths = fc.array(fc.nat({ max: 15_000 }), { maxLength: 4 });
const largeLengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 1, max: 1_048_064 })), {
  maxLength: 6,
});
const step: fc.Arbitrary<(driver: Driver) => Promise<void>> = fc.oneof(
  fc.tuple(slot, smallLengths).map(([n, lengths]) => describeStep(`put ${n} ${lengths}`, (d) => d.put(n, lengths))),
  fc.tuple(slot, largeLengths).map(([n, lengths]) => describeStep(`write ${n} ${lengths}`, (d) => d.write(n, lengths))),
  slot.map((n) => describeStep(`seal ${n}`, (d) => d.seal(n))),
  slot.map((n) => describeStep(`abort ${n}`, (d) => d.abort(n))),
  fc.array(slot, { maxLength: 4 }).map((slots) => describeStep(`take ${slots}`, (d) => d.removePresent(slots))),
  slot.map((n) => describeStep(`delete ${n}`, (d) => d.remove([n]))),
  fc.integer({ min: 1, max: 4 }).map((n) => describeStep(`compact ${n}`, (d) => d.compact(n))),
  fc.constant(describeStep("reopen", (d) => d.reopen())),
);

/** A step that fast-check can show by its name when it reports a failing sequence. */
function describeStep(name: string, run: (driver: Driver) => Promise<void>): (driver: Driver) => Promise<void> {
  return Object.assign(run, { [fc.toStringMethod]: () => name });
}

test("openLmdbBlobStore() behaves like a map of sealed blobs under any sequence of operations and restarts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
      await using directory = await makeBlobDirectory();
      const driver = new Driver(directory, await directory.open());
      for (const run of steps) await run(driver);
      expect(await driver.actual()).toEqual(driver.expected());
      await driver.reopen();
      expect(await driver.actual()).toEqual(driver.expected());
      expect(directory.fences).toEqual([]);
    }),
    { numRuns: 25, interruptAfterTimeLimit: 25_000 },
  );
});

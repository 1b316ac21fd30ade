import { describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { BlobId, NodeName } from "../../../src/domain/ids.ts";
import type { Work } from "../../../src/domain/work.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet, StrategyChoice } from "../../../src/domain/manifest.ts";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { getObject } from "../../../src/object/get.ts";
import { createMendHints } from "../../../src/object/mend-hints.ts";
import { putObject } from "../../../src/object/put.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, bytesOf, getRequest, keyOf, noise, putRequest } from "../../support/store.ts";

const blob = (n: number) => ({ id: `01JD000000000000000000000${n % 10}.body.${n}` as BlobId, node: "n1" as NodeName });

function open(add?: (work: Work) => Promise<void>) {
  const clock = new ManualClock();
  const added: Work[] = [];
  const queue = {
    async add(work: Work) {
      added.push(work);
      await add?.(work);
    },
  };
  return { clock, added, hints: createMendHints({ clock, logger: silentLogger, queue }) };
}

describe("createMendHints()", () => {
  test("tells of a damaged blob once in a while, however often it is read", async () => {
    const { clock, added, hints } = open();
    for (let n = 0; n < 1_000; n += 1) hints.noteDamaged(blob(1));
    hints.noteDamaged(blob(2));
    expect(added).toMatchObject([
      { kind: "identify", blob: blob(1) },
      { kind: "identify", blob: blob(2) },
    ]);
    await settle();
    clock.advance(60_000);
    hints.noteDamaged(blob(1));
    expect(added).toHaveLength(3);
  });

  test("holds no more than a bounded number that nobody has taken yet, and fails nobody", async () => {
    const refused: (() => void)[] = [];
    const { added, hints } = open(
      () =>
        new Promise((_, reject) => {
          refused.push(() => reject(new StoreError("overloaded", "full", { retriable: true })));
        }),
    );
    for (let n = 0; n < 1_000; n += 1) hints.noteDamaged(blob(n));
    const bound = added.length;
    expect(bound).toBeLessThan(1_000);
    for (const refuse of refused) refuse();
    await settle();
    // What did not reach the queue is told again at once.
    hints.noteDamaged(blob(0));
    expect(added).toHaveLength(bound + 1);
  });
});

describe("putObject()", () => {
  for (const [down, urgency] of [
    [1, 1],
    [2, 0],
  ] as const) {
    test(`queues mending of urgency ${urgency} when ${down} of six nodes hold nothing`, async () => {
      const { added, hints } = open();
      const store = openMemoryStore();
      const deps = { ...store.deps, hints };
      for (const node of ["n5", "n6"].slice(0, down)) store.deps.membership.report(node as NodeName, "down");
      await putObject(deps, putRequest("k", noise(100_000), { strategy: "ec", consistency: "one" }));
      expect(added).toMatchObject([{ kind: "mend", reason: "dirty", urgency, key: "k" }]);
    });
  }

  test("queues nothing when every blob is stored", async () => {
    const { added, hints } = open();
    await putObject({ ...openMemoryStore().deps, hints }, putRequest("k", noise(100_000), { strategy: "ec" }));
    await settle();
    expect(added).toEqual([]);
  });
});

/** A stored object whose first blob is where every read looks for it, and what a read of it tells healers. */
async function readWith(
  strategy: StrategyChoice,
  options: MemoryStoreOptions,
  harm: (store: ReturnType<typeof openMemoryStore>, set: BlobSet) => Promise<void>,
) {
  const store = openMemoryStore(options);
  const bytes = noise(60_000);
  await putObject(store.deps, putRequest("k", bytes, { strategy }));
  await settle();
  const stored = await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME);
  const set = blobSetsOf(stored!.record.manifest)[0] as BlobSet;
  const { added, hints } = open();
  await harm(store, set);
  // Copies are asked in a random order: sooner or later each of them.
  for (let round = 0; round < 40; round += 1) {
    const read = await bytesOf(await getObject({ ...store.deps, hints }, getRequest("k")));
    expect(read.equals(bytes)).toBe(true);
  }
  const suspect = { id: blobIdOf(set.txid, set.part, 0), node: set.nodes[0] as NodeName };
  return { added, suspect };
}

describe("getObject()", () => {
  for (const strategy of ["replication", "ec"] as const) {
    test(`reads around a missing blob of ${strategy} content and tells whose it is`, async () => {
      const { added, suspect } = await readWith(strategy, {}, async ({ deps }, set) => {
        await deps.nodes.get(set.nodes[0] as NodeName)!.delete([blobIdOf(set.txid, set.part, 0)], ANY_TIME);
      });
      expect(added).toEqual([{ kind: "identify", urgency: 1, blob: suspect }]);
    });

    test(`reads around damaged bytes of ${strategy} content and tells whose they are`, async () => {
      let bad: string | null = null;
      const spoil: MemoryStoreOptions["node"] = (real) => ({
        async readCells(id, first, count, deadline, into) {
          const cells = await real.readCells(id, first, count, deadline, into);
          if (real.node === bad) for (const { payload } of cells) payload[7] = (payload[7] as number) ^ 1;
          return cells;
        },
      });
      const { added, suspect } = await readWith(strategy, { node: spoil }, async (_, set) => {
        bad = set.nodes[0] as NodeName;
      });
      expect(added).toEqual([{ kind: "identify", urgency: 1, blob: suspect }]);
    });

    test(`says nothing of ${strategy} content on a node that does not answer`, async () => {
      let away: string | null = null;
      const silent: MemoryStoreOptions["node"] = (real) => ({
        async readCells(id, first, count, deadline, into) {
          if (real.node === away) throw new StoreError("node_unavailable", "gone", { retriable: true });
          return await real.readCells(id, first, count, deadline, into);
        },
      });
      const { added } = await readWith(strategy, { node: silent }, async (_, set) => {
        away = set.nodes[0] as NodeName;
      });
      expect(added).toEqual([]);
    });
  }
});

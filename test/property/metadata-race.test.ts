import fc from "fast-check";
import { expect, test } from "vitest";
import type { ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { nextTurn } from "../../src/lib/next-turn.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

test("commit() has one winner per revision among racing writers, and each key's history is a chain", async () => {
  const race = fc.record({
    clientCount: fc.integer({ min: 2, max: 24 }),
    keyCount: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(race, async ({ clientCount, keyCount, seed }) => {
      await using directory = await makeLmdbDirectory();
      const store = openLmdbMetadataStore({ environment: await directory.open(), clock: systemClock });
      const wins: { key: string; from: Revision; to: Revision }[] = [];
      const client = async (id: number) => {
        for (let n = 0; n < 12; n += 1) {
          const key = `key-${(id * 7 + n * 3 + seed) % keyCount}`;
          const from = (await store.get(BUCKET, key as ObjectKey, soon()))?.revision ?? REVISION_NONE;
          for (let turns = (id + n + seed) % 3; turns > 0; turns -= 1) await nextTurn();
          const record = sampleRecord(key, { etag: `${id}.${n}` });
          const result = await store.commit({ record, ifRevision: from }, soon());
          if (result.ok) wins.push({ key, from, to: result.revision });
          else expect(result.current?.revision).toBeGreaterThan(from);
        }
      };
      await Promise.all([...Array(clientCount).keys()].map(client));

      for (const key of new Set(wins.map((win) => win.key))) {
        const chain = wins.filter((win) => win.key === key).toSorted((a, b) => a.to - b.to);
        const last = await store.get(BUCKET, key as ObjectKey, soon());
        expect([...chain.map(({ from }) => from), last?.revision]).toEqual([
          REVISION_NONE,
          ...chain.map(({ to }) => to),
        ]);
      }
      await store.close();
    }),
    { numRuns: 25 },
  );
});

function soon() {
  return deadlineIn(systemClock, 30_000);
}

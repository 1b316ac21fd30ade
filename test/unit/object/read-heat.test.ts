import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ObjectHeat } from "../../../src/domain/heat.ts";
import type { BucketName, ObjectKey, VersionId } from "../../../src/domain/ids.ts";
import { HEAT_REPORT_MS } from "../../../src/heat/heat-reports.ts";
import { getObject } from "../../../src/object/get.ts";
import { headObject } from "../../../src/object/head.ts";
import { startHeatReporting } from "../../../src/object/heat-reporting.ts";
import { putObject } from "../../../src/object/put.ts";
import { ReadHeat } from "../../../src/object/read-heat.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { openMemoryStore } from "../../support/memory-store.ts";
import { getRequest, noise, putRequest } from "../../support/store.ts";

const objectOf = (key: string, version = "v1") => ({
  bucket: "default" as BucketName,
  key: key as ObjectKey,
  version: version as VersionId,
});

function noteOften(heat: ReadHeat, key: string, times: number, version?: string): void {
  for (let time = 0; time < times; time += 1) heat.note(objectOf(key, version));
}

const readsOf = (hot: readonly ObjectHeat[]) => Object.fromEntries(hot.map(({ key, reads }) => [key, reads]));

describe("ReadHeat", () => {
  test("hottest() names the objects above the floor, the hottest first, and no more than wanted", () => {
    const heat = new ReadHeat(new ManualClock());
    noteOften(heat, "cold", 9);
    noteOften(heat, "warm", 10);
    noteOften(heat, "hot", 30);
    noteOften(heat, "hotter", 40);
    expect(heat.hottest(10, 9).map(({ key }) => key)).toEqual(["hotter", "hot", "warm"]);
    expect(heat.hottest(10, 2).map(({ key, reads }) => [key, reads])).toEqual([
      ["hotter", 40],
      ["hot", 30],
    ]);
  });

  test("hottest() counts the reads of the window and no older ones, whenever in the window they were", () => {
    const clock = new ManualClock();
    const heat = new ReadHeat(clock);
    for (let second = 0; second < 180; second += 1) {
      noteOften(heat, "steady", 10);
      clock.advance(1_000);
      const [steady] = heat.hottest(1, 1);
      expect(steady?.reads).toBeLessThanOrEqual(600);
      if (second >= 60) expect(steady?.reads).toBeGreaterThanOrEqual(490);
      expect(steady?.reads).toBe(((steady?.windowMs ?? 0) / 1_000) * 10);
    }
    clock.advance(60_000);
    expect(heat.hottest(1, 1)).toEqual([]);
  });

  test("hottest() adds up the versions of an object and names the last one that was read", () => {
    const clock = new ManualClock();
    const heat = new ReadHeat(clock);
    noteOften(heat, "patched", 5, "v1");
    clock.advance(15_000);
    noteOften(heat, "patched", 5, "v2");
    noteOften(heat, "patched", 5, "v3");
    expect(heat.hottest(1, 9)).toEqual([expect.objectContaining({ key: "patched", version: "v3", reads: 15 })]);
  });

  test("hottest() knows buckets apart", () => {
    const heat = new ReadHeat(new ManualClock());
    heat.note({ ...objectOf("k"), bucket: "one" as BucketName });
    heat.note({ ...objectOf("k"), bucket: "two" as BucketName });
    expect(heat.hottest(1, 9).map(({ bucket, reads }) => [bucket, reads])).toEqual([
      ["one", 1],
      ["two", 1],
    ]);
  });

  test("note() never counts too much, and too little by the reads per place at most, whatever the crowd", () => {
    const places = 8;
    const reads = fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 400 });
    fc.assert(
      fc.property(reads, (keys) => {
        const heat = new ReadHeat(new ManualClock(), { places });
        const truth = new Map<string, number>();
        for (const key of keys.map((number) => `k${Math.floor(number / 3)}`)) {
          heat.note(objectOf(key));
          truth.set(key, (truth.get(key) ?? 0) + 1);
        }
        const counted = readsOf(heat.hottest(1, 1_000));
        expect(Object.keys(counted).length).toBeLessThanOrEqual(places);
        for (const [key, count] of truth) {
          expect(counted[key] ?? 0).toBeLessThanOrEqual(count);
          expect(counted[key] ?? 0).toBeGreaterThanOrEqual(count - keys.length / (places + 1));
        }
      }),
    );
  });
});

describe("getObject()", () => {
  test("counts a read of the whole or of a range, and no look, no miss and nothing that is inside its record", async () => {
    const { deps, read } = openMemoryStore();
    await putObject(deps, putRequest("blobs", noise(5_000), { strategy: "replication" }));
    await putObject(deps, putRequest("inside", noise(100), { strategy: "inline" }));
    await read("blobs");
    await getObject(deps, { ...getRequest("blobs"), range: { first: 0, last: 9 } });
    await headObject(deps, getRequest("blobs"));
    await read("inside");
    await read("nothing");
    expect(readsOf(deps.heat.hottest(1, 9))).toEqual({ blobs: 2 });
  });
});

describe("startHeatReporting()", () => {
  test("tells what is hot in every period, also when nothing is any more, until it is disposed", () => {
    const clock = new ManualClock();
    const heat = new ReadHeat(clock);
    const told: Record<string, number>[] = [];
    const reporting = startHeatReporting({
      clock,
      heat,
      readsMin: 3,
      reporter: { report: (hot) => told.push(readsOf(hot)) },
    });
    noteOften(heat, "hot", 3);
    noteOften(heat, "cold", 2);
    clock.advance(HEAT_REPORT_MS);
    expect(told).toEqual([{ hot: 3 }]);
    clock.advance(60_000);
    expect(told.at(-1)).toEqual({});
    const { length } = told;
    reporting[Symbol.dispose]();
    clock.advance(60_000);
    expect(told).toHaveLength(length);
  });
});

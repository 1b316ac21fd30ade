import { describe, expect, it } from "vitest";
import { Batcher } from "../../../src/lib/batcher.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";

/** A batcher whose batches end when the test says so. */
function heldBatcher(itemsMax = 100, pauseClock: ManualClock | null = null) {
  const batches: { items: string[]; finish: () => void; fail: (cause: Error) => void }[] = [];
  const batcher = new Batcher<string, string>(
    (items) => {
      const { promise, resolve, reject } = Promise.withResolvers<string[]>();
      batches.push({ items, finish: () => resolve(items.map((item) => `done ${item}`)), fail: reject });
      return promise;
    },
    itemsMax,
    pauseClock,
  );
  return { batcher, batches };
}

describe("Batcher", () => {
  it("works on a lone item at once", async () => {
    const { batcher, batches } = heldBatcher();
    const added = batcher.add("a");
    await settle();
    expect(batches.map((batch) => batch.items)).toEqual([["a"]]);
    batches[0]?.finish();
    expect(await added).toBe("done a");
  });

  it("puts what became ready together into the first batch, and what waits during it into the next", async () => {
    const { batcher, batches } = heldBatcher();
    const added = [batcher.add("a"), batcher.add("b")];
    await settle();
    added.push(batcher.add("c"), batcher.add("d"));
    await settle();
    expect(batches.map((batch) => batch.items)).toEqual([["a", "b"]]);
    batches[0]?.finish();
    await settle();
    expect(batches.map((batch) => batch.items)).toEqual([
      ["a", "b"],
      ["c", "d"],
    ]);
    batches[1]?.finish();
    expect(await Promise.all(added)).toEqual(["done a", "done b", "done c", "done d"]);
  });

  it("never makes a batch larger than allowed", async () => {
    const { batcher, batches } = heldBatcher(2);
    const added = Promise.all(["a", "b", "c", "d", "e"].map((item) => batcher.add(item)));
    for (let round = 0; round < 3; round += 1) {
      await settle();
      batches[round]?.finish();
    }
    await added;
    expect(batches.map((batch) => batch.items)).toEqual([["a", "b"], ["c", "d"], ["e"]]);
  });

  it("pauses after a shared batch, so that more wait for the next, and not after a lone item", async () => {
    const clock = new ManualClock();
    const { batcher, batches } = heldBatcher(100, clock);
    const added = [batcher.add("a"), batcher.add("b")];
    await settle();
    added.push(batcher.add("c"));
    clock.advance(8);
    batches[0]?.finish();
    await settle();
    expect(batches).toHaveLength(1);
    expect(await Promise.all(added.slice(0, 2))).toEqual(["done a", "done b"]);
    clock.advance(8);
    await settle();
    expect(batches[1]?.items).toEqual(["c"]);
    added.push(batcher.add("d"));
    clock.advance(8);
    batches[1]?.finish();
    await settle();
    expect(batches[2]?.items).toEqual(["d"]);
    batches[2]?.finish();
    await Promise.all(added);
  });

  it("fails all items of a batch alike and goes on with the next", async () => {
    const { batcher, batches } = heldBatcher();
    const failed = Promise.allSettled([batcher.add("a"), batcher.add("b")]);
    await settle();
    const next = batcher.add("c");
    const cause = new Error("disk");
    batches[0]?.fail(cause);
    expect((await failed).map((outcome) => outcome.status === "rejected" && outcome.reason)).toEqual([cause, cause]);
    await settle();
    batches[1]?.finish();
    expect(await next).toBe("done c");
  });

  it("survives work that throws before it first awaits", async () => {
    let calls = 0;
    const batcher = new Batcher<number, number>((items) => {
      calls += 1;
      if (calls === 1) throw new Error("at once");
      return Promise.resolve(items);
    }, 10);
    await expect(batcher.add(1)).rejects.toThrow("at once");
    expect(await batcher.add(2)).toBe(2);
  });
});

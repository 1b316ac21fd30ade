import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Batcher } from "../../src/lib/batcher.ts";
import { KeyedBatcher } from "../../src/lib/keyed-batcher.ts";
import { settle } from "../support/manual-clock.ts";

type Item = { readonly key: string; readonly id: number };

/** Steps of a client: an item for one of three keys, or the oldest batch under way ends, well or badly. */
const steps = fc.array(fc.constantFrom("a", "b", "c", "finish", "finish", "fail"), { maxLength: 80, size: "max" });

const failure = new Error("a batch failed");

/** Runs the steps; checks after each what holds at any time, and at the end that everyone was answered. */
async function play(actions: readonly string[], itemsMax: number, keyed: boolean): Promise<void> {
  const underWay: { items: Item[]; finish: () => void; fail: () => void }[] = [];
  const worked: Item[] = [];
  const broken: string[] = [];
  const work = (items: Item[]) => {
    const { promise, resolve, reject } = Promise.withResolvers<number[]>();
    const end = () => underWay.splice(underWay.indexOf(batch), 1);
    const batch = {
      items,
      finish: () => (end(), resolve(items.map((item) => item.id))),
      fail: () => (end(), reject(failure)),
    };
    underWay.push(batch);
    worked.push(...items);
    if (items.length > itemsMax) broken.push(`a batch of ${items.length}`);
    const keys = underWay.map((other) => (keyed ? other.items[0]?.key : ""));
    if (new Set(keys).size < keys.length) broken.push("two batches of a key at a time");
    if (keyed && new Set(items.map((item) => item.key)).size > 1) broken.push("two keys in a batch");
    return promise;
  };
  const plain = new Batcher(work, itemsMax);
  const byKey = new KeyedBatcher(work, itemsMax);
  const answers: Promise<unknown>[] = [];
  for (const [id, action] of actions.entries()) {
    if (action === "finish") underWay[0]?.finish();
    else if (action === "fail") underWay[0]?.fail();
    else {
      const item = { key: action, id };
      const answer = keyed ? byKey.add(action, item) : plain.add(item);
      const wrong = (what: unknown) => void broken.push(`${id} was answered ${String(what)}`);
      answers.push(
        answer.then((result) => result !== id && wrong(result)).catch((cause) => cause !== failure && wrong(cause)),
      );
    }
    // Sometimes several steps fall into one turn.
    if (id % 3 !== 0) await settle();
  }
  const all = Promise.all(answers);
  for (await settle(); underWay.length > 0; await settle()) underWay[0]?.finish();
  await all;
  expect(broken).toEqual([]);
  expect(worked).toHaveLength(answers.length);
  for (const key of keyed ? ["a", "b", "c"] : [""]) {
    const ids = worked.filter((item) => !keyed || item.key === key).map((item) => item.id);
    expect(ids, "in the order in which they came").toEqual([...ids].sort((a, b) => a - b));
  }
}

describe("Batcher", () => {
  test("add() answers everyone, in order, with one batch under way", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.integer({ min: 1, max: 5 }), (actions, itemsMax) => play(actions, itemsMax, false)),
    );
  });
});

describe("KeyedBatcher", () => {
  test("add() answers everyone, in order per key, with one batch of each key under way", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.integer({ min: 1, max: 5 }), (actions, itemsMax) => play(actions, itemsMax, true)),
    );
  });
});

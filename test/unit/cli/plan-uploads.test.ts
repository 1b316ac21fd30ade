import { expect, test } from "vitest";
import { planUploads } from "../../../src/cli/put.ts";

const exists = (path: string) => ["a", "b", "dir/c", "x.bin"].includes(path);
const plan = (operands: string[], key: string | null = null) =>
  planUploads(operands, key, exists).map(({ file, key: to }) => `${file} -> ${to}`);

test.each([
  [["a"], ["a -> a"]],
  [["dir/c"], ["dir/c -> c"]],
  [["a", "k"], ["a -> k"]],
  [["a", "deep/k"], ["a -> deep/k"]],
  [["a", "p/"], ["a -> p/a"]],
  [["a", "a"], ["a -> a"]],
  [["-", "k"], ["- -> k"]],
  [
    ["a", "dir/c", "p/"],
    ["a -> p/a", "dir/c -> p/c"],
  ],
  [
    ["a", "b", "dir/c"],
    ["a -> a", "b -> b", "dir/c -> c"],
  ],
])("planUploads(%j) is unambiguous", (operands, planned) => {
  expect(plan(operands)).toEqual(planned);
});

test("planUploads() takes every operand for a file where --key names the key", () => {
  expect(plan(["a"], "b")).toEqual(["a -> b"]);
  expect(plan(["a", "b"], "p/")).toEqual(["a -> p/a", "b -> p/b"]);
});

test.each([
  [["a", "b"], null, /"b" is a file: to use it as the key write --key "b"/],
  [["a", "b", "k"], null, /Several files need a KEY ending in \//],
  [["a", "b"], "k", /2 files cannot share the key "k"/],
  [["-"], null, /Standard input has no name/],
  [["-", "p/"], null, /Standard input has no name/],
])("planUploads(%j) with --key %j refuses rather than guesses", (operands, key, message) => {
  expect(() => plan(operands, key)).toThrow(message);
});

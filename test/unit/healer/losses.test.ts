import { expect, test } from "vitest";
import { NO_LOSS } from "../../../src/domain/healing.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { Losses } from "../../../src/healer/losses.ts";

const n1 = "n1" as NodeName;
const n2 = "n2" as NodeName;

test("what lacks is added up by node and altogether, the sets of one write as one object", () => {
  const losses = new Losses();
  losses.add("A.cold", { node: n1, bytes: 100 });
  losses.add("A.cold", { node: n2, bytes: 100 });
  losses.add("A.hot", { node: n1, bytes: 7 });
  losses.add("B.body", { node: n1, bytes: 50 });
  losses.add("C.body", { node: null, bytes: 1 });
  expect(losses.of(n1)).toEqual({ blobs: 3, objects: 2, bytes: 157 });
  expect(losses.of(n2)).toEqual({ blobs: 1, objects: 1, bytes: 100 });
  expect(losses.of(null)).toEqual({ blobs: 5, objects: 3, bytes: 258 });
  expect(losses.of("n3" as NodeName)).toEqual(NO_LOSS);
});

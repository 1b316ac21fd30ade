import { describe, expect, test } from "vitest";
import type { Revision } from "../../../src/domain/ids.ts";
import { ListPageBuilder } from "../../../src/metadata/list-page.ts";
import type { ListOptions } from "../../../src/metadata/metadata-store.ts";
import { sampleRecord } from "../../support/sample-records.ts";

describe("ListPageBuilder", () => {
  test("offer() seeks past a group after its first readable key", () => {
    const page = builder({ delimiter: "/" });
    expect(offer(page, "a/1", false)).toBe("next");
    expect(offer(page, "a/2")).toBe("seek");
    expect(page.from.toString()).toBe("a0");
    expect(offer(page, "b")).toBe("next");
    expect(page.finish()).toMatchObject({ commonPrefixes: ["a/"], entries: [{ record: { key: "b" } }], next: null });
  });

  test("offer() knows a full page only by the entry that no longer fits", () => {
    const page = builder({ limit: 1 });
    expect(offer(page, "a")).toBe("next");
    expect(offer(page, "b", false)).toBe("next");
    expect(page.finish().next).toBeNull();
    expect(offer(page, "c")).toBe("full");
    expect(page.finish()).toMatchObject({ entries: [{ record: { key: "a" } }], next: "a" });
  });

  test("offer() decodes only what belongs on the page", () => {
    const page = builder({ delimiter: "/", limit: 1 });
    const mustNot = () => {
      throw new Error("decoded in vain");
    };
    expect(page.offer("a/1", false, mustNot)).toBe("next");
    expect(page.offer("a/2", true, mustNot)).toBe("seek");
    expect(page.offer("b", true, mustNot)).toBe("full");
  });

  test.each<[string, Partial<ListOptions>, string, string | null]>([
    ["nothing", {}, "", null],
    ["a prefix", { prefix: "p/" }, "p/", "p0"],
    ["after a key", { after: "k" }, "k\0", null],
    ["after a key before the prefix", { prefix: "p", after: "k" }, "p", "q"],
    ["after a group", { delimiter: "/", after: "g/" }, "g0", null],
    ["after a key in a group", { delimiter: "/", after: "g/x" }, "g/x\0", null],
    ["after a group, of another prefix", { delimiter: "/", prefix: "h", after: "g/" }, "h", "i"],
    ["after a key that is too long", { after: "k".repeat(2_000) }, `${"k".repeat(1_024)}\0`, null],
  ])("from and end bound the keys given %s", (_, options, from, end) => {
    const page = builder(options);
    expect(page.from.toString()).toBe(from);
    expect(page.end?.toString() ?? null).toBe(end);
  });

  test("bounds nothing for a prefix that is too long", () => {
    const page = builder({ prefix: "k".repeat(1_025) });
    expect(page.from).toEqual(page.end);
  });
});

function builder(options: Partial<ListOptions>): ListPageBuilder {
  return new ListPageBuilder({ prefix: "", delimiter: "", after: "", limit: 1_000, ...options });
}

function offer(page: ListPageBuilder, key: string, isReadable = true): string {
  return page.offer(key, isReadable, () => ({ record: sampleRecord(key), revision: 1 as Revision }));
}

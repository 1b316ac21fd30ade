import { expect, test } from "vitest";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import type { ObjectRecord } from "../../src/domain/record.ts";
import type { ListOptions, ListPage } from "../../src/metadata/metadata-store.ts";
import { commitOk, keysOf, list } from "../support/metadata-calls.ts";
import { OTHER_BUCKET, sampleRecord } from "../support/sample-records.ts";
import type { OpenMetadataStore } from "./metadata-store.contract.ts";

/** What every `MetadataStore` promises of its listings; part of `describeMetadataStore`. */
export function describeList(open: OpenMetadataStore): void {
  const PHOTOS = [
    "2023/a",
    "2024/01/b",
    "2024/01/c",
    "2024/02/d",
    "2024-note",
    "readme",
    "übersicht",
    "温度/1",
    "温度/2",
  ];

  test.each<[string, Partial<ListOptions>, string[], string[]]>([
    [
      "everything",
      {},
      ["2023/a", "2024-note", "2024/01/b", "2024/01/c", "2024/02/d", "readme", "übersicht", "温度/1", "温度/2"],
      [],
    ],
    ["a prefix", { prefix: "2024" }, ["2024-note", "2024/01/b", "2024/01/c", "2024/02/d"], []],
    ["a prefix that is a key", { prefix: "readme" }, ["readme"], []],
    ["a prefix of nothing", { prefix: "nope" }, [], []],
    ["a prefix longer than any key", { prefix: "x".repeat(5_000) }, [], []],
    ["groups", { delimiter: "/" }, ["2024-note", "readme", "übersicht"], ["2023/", "2024/", "温度/"]],
    ["groups below a prefix", { prefix: "2024/", delimiter: "/" }, [], ["2024/01/", "2024/02/"]],
    ["groups of a prefix inside a name", { prefix: "2024/0", delimiter: "/" }, [], ["2024/01/", "2024/02/"]],
    [
      "a delimiter of many bytes",
      { delimiter: "度/" },
      PHOTOS.slice(0, 4).concat("2024-note", "readme", "übersicht").sort(),
      ["温度/"],
    ],
    ["what follows a key", { after: "2024/02/d" }, ["readme", "übersicht", "温度/1", "温度/2"], []],
    [
      "what follows no key",
      { after: "2024/01/bb" },
      ["2024/01/c", "2024/02/d", "readme", "übersicht", "温度/1", "温度/2"],
      [],
    ],
    ["what follows a group", { after: "2024/", delimiter: "/" }, ["readme", "übersicht"], ["温度/"]],
    [
      "what follows a key in a group",
      { after: "2024/01/c", delimiter: "/" },
      ["readme", "übersicht"],
      ["2024/", "温度/"],
    ],
    [
      "what follows the last key of a group",
      { after: "2024/02/d", delimiter: "/" },
      ["readme", "übersicht"],
      ["温度/"],
    ],
    ["a start before the prefix", { prefix: "2024/", after: "1" }, ["2024/01/b", "2024/01/c", "2024/02/d"], []],
    ["a start behind the prefix", { prefix: "2024/", after: "3" }, [], []],
    [
      "a start longer than any key",
      { after: `2024${"/".repeat(5_000)}` },
      ["2024/01/b", "2024/01/c", "2024/02/d", "readme", "übersicht", "温度/1", "温度/2"],
      [],
    ],
  ])("list() gives %s", async (_, options, keys, commonPrefixes) => {
    await using harness = await open();
    await Promise.all(PHOTOS.map((key) => commitOk(harness.store, sampleRecord(key), REVISION_NONE)));
    await commitOk(harness.store, sampleRecord("2024/elsewhere", { bucket: OTHER_BUCKET }), REVISION_NONE);
    const page = await list(harness.store, options);
    expect(keysOf(page)).toEqual(keys);
    expect(page.commonPrefixes).toEqual(commonPrefixes);
    expect(page.next).toBeNull();
  });

  test("list() orders by the bytes of UTF-8, not by UTF-16", async () => {
    await using harness = await open();
    const keys = ["\u{1f600}", "\uffff", "\ue000", "é", "z", "~", "\u{10000}"];
    for (const key of keys) await commitOk(harness.store, sampleRecord(key), REVISION_NONE);
    const expected = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(keysOf(await list(harness.store, {}))).toEqual(expected);
    expect(expected).not.toEqual(keys.toSorted());
  });

  test.each([1, 2, 3, 100])("list() pages of %d give each entry and common prefix once", async (limit) => {
    await using harness = await open();
    await Promise.all(PHOTOS.map((key) => commitOk(harness.store, sampleRecord(key), REVISION_NONE)));
    const found: string[] = [];
    for (let after: string | null = ""; after !== null;) {
      const page: ListPage = await list(harness.store, { delimiter: "/", after, limit });
      const items = [...keysOf(page), ...page.commonPrefixes];
      expect(items.length).toBeLessThanOrEqual(limit);
      if (page.next !== null) expect(items.length).toBe(limit);
      found.push(...items);
      after = page.next;
    }
    expect(found.toSorted()).toEqual(["2023/", "2024-note", "2024/", "readme", "übersicht", "温度/"].toSorted());
  });

  test("list() leaves out tombstones, fences and groups of nothing else", async () => {
    await using harness = await open();
    const states = { "a/1": "tombstone", "a/2": "fence", "b/1": "tombstone", "b/2": "object", c: "fence", d: "object" };
    for (const [key, state] of Object.entries(states)) {
      await commitOk(harness.store, sampleRecord(key, { state: state as ObjectRecord["state"] }), REVISION_NONE);
    }
    const page = await list(harness.store, { delimiter: "/" });
    expect(keysOf(page)).toEqual(["d"]);
    expect(page.commonPrefixes).toEqual(["b/"]);
    expect(keysOf(await list(harness.store, {}))).toEqual(["b/2", "d"]);
  });

  test("list() ends with null when only tombstones follow a full page", async () => {
    await using harness = await open();
    await commitOk(harness.store, sampleRecord("a"), REVISION_NONE);
    await commitOk(harness.store, sampleRecord("b", { state: "tombstone" }), REVISION_NONE);
    expect((await list(harness.store, { limit: 1 })).next).toBeNull();
  });

  test("list() finds what lies behind thousands of tombstones and large groups", async () => {
    await using harness = await open();
    const records = [
      ...[...Array(1_200).keys()].map((n) => sampleRecord(`gone/${n}`, { state: "tombstone" })),
      ...[...Array(600).keys()].map((n) => sampleRecord(`group/${n}`)),
      sampleRecord("zebra"),
    ];
    await Promise.all(records.map((record) => commitOk(harness.store, record, REVISION_NONE)));
    const page = await list(harness.store, { delimiter: "/" });
    expect([keysOf(page), page.commonPrefixes, page.next]).toEqual([["zebra"], ["group/"], null]);
    expect(keysOf(await list(harness.store, { prefix: "gone/", limit: 1 }))).toEqual([]);
    expect(keysOf(await list(harness.store, { limit: 1_000 }))).toHaveLength(601);
  });
}

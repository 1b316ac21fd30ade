import { describe, expect, test } from "vitest";
import { StoreError } from "../../../src/domain/errors.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import { blobIdOf } from "../../../src/domain/ids.ts";
import type { BlobSet } from "../../../src/domain/manifest.ts";
import { blobSetsOf } from "../../../src/domain/manifest.ts";
import { lookAtSet } from "../../../src/healer/look-at-sets.ts";
import { createStaticMembership } from "../../../src/membership/static-membership.ts";
import { putObject } from "../../../src/object/put.ts";
import { settle } from "../../support/manual-clock.ts";
import type { MemoryStoreOptions } from "../../support/memory-store.ts";
import { ANY_TIME, NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { BUCKET, keyOf, noise, putRequest } from "../../support/store.ts";

const trustAll = () => false;
const WHOLE = { condition: "whole", damagedCells: [], strays: [] } as const;

/** An object of three copies. */
async function open(options: MemoryStoreOptions = {}) {
  const store = openMemoryStore(options);
  await putObject(store.deps, putRequest("k", noise(50_000), { strategy: "replication" }));
  await settle();
  const { record } = (await store.realMetadata.get(BUCKET, keyOf("k"), ANY_TIME))!;
  const set = blobSetsOf(record.manifest)[0] as BlobSet;
  const nodes = set.nodes as readonly NodeName[];
  const id = blobIdOf(set.txid, set.part, 0);
  const first = store.deps.nodes.get(nodes[0] as NodeName)!;
  const free = NODE_NAMES.filter((name) => !nodes.includes(name));
  const membership = createStaticMembership(
    NODE_NAMES.map((name) => ({ name, state: "live", region: "r", zone: name, weight: 1 })),
  );
  const lost = new Set<NodeName>();
  const deps = { ...store.deps, membership, isLost: (node: NodeName) => lost.has(node) };
  const copyTo = async (name: NodeName) => {
    const { descriptor, info } = (await first.describe(id, ANY_TIME))!;
    const cells = await first.readCells(id, 0, info.cellCount, ANY_TIME);
    await store.deps.nodes.get(name)!.put({ id, descriptor, cells }, ANY_TIME);
  };
  return { set, nodes, id, first, free, deps, membership, lost, copyTo };
}

/** Whoever verifies a blob finds these cells bad; null: its frame. */
function damagedIn(...cells: (number | null)[]): MemoryStoreOptions {
  return {
    node: () => ({ verify: async (id) => cells.map((cellIndex) => ({ id, cellIndex, reason: "bad bytes" })) }),
  };
}

/** A node that answers every question about a blob with this error, once it is switched on. */
function answering(code: "node_unavailable" | "blob_damaged" | "format_unknown") {
  const broken = new Set<string>();
  const options: MemoryStoreOptions = {
    node: (real) => ({
      async describe(id, deadline) {
        if (broken.has(real.node)) throw new StoreError(code, "broken", { retriable: true });
        return await real.describe(id, deadline);
      },
    }),
  };
  return { broken, options };
}

describe("lookAtSet()", () => {
  test("finds whole what is where the record says, and asks no other node", async () => {
    const asked = new Set<string>();
    const { set, nodes, deps } = await open({
      node: (real) => ({
        async describe(id, deadline) {
          asked.add(real.node);
          return await real.describe(id, deadline);
        },
      }),
    });
    const found = await lookAtSet(deps, set, trustAll);
    expect(found.blobs).toEqual(nodes.map((node) => ({ node, ...WHOLE })));
    expect(found.descriptor).not.toBeNull();
    expect([...asked].sort()).toEqual([...nodes].sort());
  });

  test("finds missing what its node does not have, and where else it lies", async () => {
    const { set, nodes, id, first, free, deps, copyTo } = await open();
    await copyTo(free[0] as NodeName);
    await first.delete([id], ANY_TIME);
    const { blobs } = await lookAtSet(deps, set, trustAll);
    expect(blobs[0]).toEqual({ node: nodes[0], condition: "missing", damagedCells: [], strays: [free[0]] });
    expect(blobs.slice(1)).toEqual(nodes.slice(1).map((node) => ({ node, ...WHOLE })));
  });

  test("the bytes of suspects are read: bad cells are told by number", async () => {
    const { set, nodes, id, deps } = await open(damagedIn(1));
    const { blobs } = await lookAtSet(deps, set, (suspect, node) => suspect === id && node === nodes[0]);
    expect(blobs[0]).toEqual({ node: nodes[0], condition: "damaged", damagedCells: [1], strays: [] });
  });

  test("a suspect whose frame is broken counts as missing", async () => {
    const { set, id, deps } = await open(damagedIn(null, 1));
    const { blobs } = await lookAtSet(deps, set, (suspect) => suspect === id);
    expect(blobs[0]).toMatchObject({ condition: "missing" });
  });

  test("one whose seal cannot be read counts as missing", async () => {
    const { broken, options } = answering("blob_damaged");
    const { set, nodes, deps } = await open(options);
    broken.add(nodes[0] as NodeName);
    expect((await lookAtSet(deps, set, trustAll)).blobs[0]).toMatchObject({ condition: "missing" });
  });

  test.each([
    { isLost: false, condition: "away" },
    { isLost: true, condition: "lost" },
  ])("a node that does not answer is $condition", async ({ isLost, condition }) => {
    const { broken, options } = answering("node_unavailable");
    const { set, nodes, deps, lost } = await open(options);
    broken.add(nodes[0] as NodeName);
    if (isLost) lost.add(nodes[0] as NodeName);
    expect((await lookAtSet(deps, set, trustAll)).blobs[0]).toMatchObject({ node: nodes[0], condition });
  });

  test("a node that is down is not asked; one that drains is", async () => {
    const { set, nodes, deps, membership } = await open();
    membership.report(nodes[0] as NodeName, "down");
    membership.setDraining(nodes[1] as NodeName, true);
    const { blobs } = await lookAtSet(deps, set, trustAll);
    expect(blobs.map(({ condition }) => condition)).toEqual(["away", "whole", "whole"]);
  });

  test("a blob that was never stored is looked for everywhere", async () => {
    const { set, nodes, id, first, free, deps, copyTo } = await open();
    await copyTo(free[1] as NodeName);
    await first.delete([id], ANY_TIME);
    const never = { ...set, nodes: [null, ...nodes.slice(1)] };
    const { blobs } = await lookAtSet(deps, never, trustAll);
    expect(blobs[0]).toEqual({ node: null, condition: "none", damagedCells: [], strays: [free[1]] });
  });

  test("one of another length than its set is none", async () => {
    const { set, deps } = await open();
    const { blobs } = await lookAtSet(deps, { ...set, sizeBytes: set.sizeBytes + 1 }, trustAll);
    expect(blobs.map(({ condition }) => condition)).toEqual(["missing", "missing", "missing"]);
  });

  test("nothing is concluded from what a newer program wrote", async () => {
    const { broken, options } = answering("format_unknown");
    const { set, nodes, deps } = await open(options);
    broken.add(nodes[0] as NodeName);
    await expect(lookAtSet(deps, set, trustAll)).rejects.toMatchObject({ code: "format_unknown" });
  });
});

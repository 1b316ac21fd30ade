import { describe, expect, it } from "vitest";
import type { BlobStore } from "../../../src/blob/blob-store.ts";
import type { NodeName } from "../../../src/domain/ids.ts";
import type { StrategyChoice } from "../../../src/domain/manifest.ts";
import { putObject } from "../../../src/object/put.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { NODE_NAMES, openMemoryStore } from "../../support/memory-store.ts";
import { noise, putRequest } from "../../support/store.ts";

type Damage = "a flipped bit" | "another cell's bytes" | "too few bytes" | "no answer";

/** A store of which some nodes answer reads with damaged cells. */
function openDamaged(): { store: MemoryStore; damage: Map<NodeName, Damage> } {
  const damage = new Map<NodeName, Damage>();
  const store = openMemoryStore({ node: (real) => ({ readCells: readWith(real, () => damage.get(real.node)) }) });
  return { store, damage };
}

function readWith(real: BlobStore, kind: () => Damage | undefined): BlobStore["readCells"] {
  return async (id, first, count, deadline, into) => {
    const cells = await real.readCells(id, first, count, deadline, into);
    switch (kind()) {
      case undefined:
        return cells;
      case "a flipped bit":
        for (const { payload } of cells) payload[payload.length >> 1] = (payload[payload.length >> 1] as number) ^ 1;
        return cells;
      case "another cell's bytes": {
        // The bytes and the checksum of a sound cell that belongs elsewhere: of the same blob, or of another one.
        const [other] = first > 0 ? await real.readCells(id, first - 1, 1, deadline) : [];
        for (const cell of cells)
          cell.payload.set((other?.payload ?? Buffer.alloc(9, 7)).subarray(0, cell.payload.length));
        return cells.map((cell) => ({ ...cell, checksum: other?.checksum ?? cell.checksum }));
      }
      case "too few bytes":
        return cells.map((cell) => ({ ...cell, payload: cell.payload.subarray(1) }));
      case "no answer":
        return [];
    }
  };
}

const KINDS: readonly Damage[] = ["a flipped bit", "another cell's bytes", "too few bytes", "no answer"];
const CONTENTS = [
  ["packed copies", "replication", noise(5_000, 1), 2],
  ["streamed copies", "replication", noise(3_000_000, 1), 2],
  ["packed shards", "ec", noise(100_000, 1), 2],
  ["streamed shards", "ec", noise(5_000_000, 1), 2],
] as const satisfies [string, StrategyChoice, Buffer, number][];

describe("getObject()", () => {
  for (const [name, strategy, bytes, tolerance] of CONTENTS) {
    for (const kind of KINDS) {
      it(`reads ${name} around nodes that give ${kind}, and serves nothing when too many do`, async () => {
        const { store, damage } = openDamaged();
        const { nodes } = await putObject(store.deps, putRequest("k", bytes, { strategy }));
        for (let first = 0; first < nodes.length; first += 1) {
          damage.clear();
          for (let count = 0; count < tolerance; count += 1) {
            damage.set(nodes[(first + count) % nodes.length] as NodeName, kind);
            expect((await store.read("k"))?.equals(bytes), `${count + 1} damaged from ${first}`).toBe(true);
          }
        }
        for (const node of NODE_NAMES) damage.set(node, kind);
        await expect(store.read("k")).rejects.toMatchObject({ code: "object_damaged" });
        expect(store.deps.memory.used).toBe(0);
      });
    }
  }
});

import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { NodeName, Txid } from "../../../src/domain/ids.ts";
import type { Redundancy } from "../../../src/domain/manifest.ts";
import type { NodeInfo, NodeState } from "../../../src/domain/node-info.ts";
import type { BlobLook, SetLook, SetMend } from "../../../src/healer/mend-plan.ts";
import { mendedSet, planSetMend } from "../../../src/healer/mend-plan.ts";

/**
 * Each file is a transcript: what was found of a set, a line of dashes, what is done about it and what the record then names.
 *
 *   set <redundancy> <index:node> …       as the record says; -- for a blob that was never stored
 *   damaged <index>:<cell>,<cell> …       \
 *   missing | lost | away | none <index>    > of each blob that is not whole; `found <node> …` on other nodes
 *   nodes <name[:state]> …                live unless another state is named
 */
const dir = join(import.meta.dirname, "mend");

describe("planSetMend()", () => {
  for (const file of readdirSync(dir)) {
    it(`decides as written in ${basename(file, ".txt")}`, () => {
      const [given, expected] = readFileSync(join(dir, file), "utf8").split("----\n") as [string, string];
      const { look, nodes } = parse(given.trim().split("\n"));
      const mend = planSetMend(look, { nodes, key: "b/k" });
      expect(describeMend(mend)).toBe(expected.trim());
    });
  }
});

function parse(lines: readonly string[]): { look: SetLook; nodes: NodeInfo[] } {
  const of = (word: string) => lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.split(" "));
  const [, code, ...placed] = of("set")[0] as [string, string, ...string[]];
  const names = placed.map((entry) => entry.split(":")[1] as NodeName);
  const blobs = names.map((name, index): BlobLook => {
    const node = name === "--" ? null : name;
    for (const condition of ["missing", "lost", "away", "none"] as const) {
      const found = of(condition).find(([, at]) => Number(at) === index);
      if (found !== undefined) return { node, condition, damagedCells: [], strays: found.slice(3) as NodeName[] };
    }
    const damaged = of("damaged").find(([, at]) => at?.startsWith(`${index}:`));
    const damagedCells = damaged?.[1]?.split(":")[1]?.split(",").map(Number) ?? [];
    return { node, condition: damaged === undefined ? "whole" : "damaged", damagedCells, strays: [] };
  });
  const nodes = (of("nodes")[0] as string[]).slice(1).map((entry): NodeInfo => {
    const [name, state = "live"] = entry.split(":") as [NodeName, NodeState?];
    return { name, state, region: "r", zone: name, weight: 1 };
  });
  const set = {
    ...{ txid: "T" as Txid, part: "body" as const, sizeBytes: 1, cellBytes: 64, redundancy: parseRedundancy(code) },
    nodes: blobs.map(({ node }) => node),
  };
  return { look: { set, blobs }, nodes };
}

function parseRedundancy(text: string): Redundancy {
  const [first = 0, second = 0] = [...text.matchAll(/\d+/g)].map(Number);
  return text.startsWith("ec") ? { scheme: "ec", k: first, m: second } : { scheme: "replication", copies: first };
}

function describeMend(mend: SetMend): string {
  const lines = mend.blobs.map((blob, index) => {
    switch (blob.action) {
      case "keep":
        return `keep ${index}`;
      case "adopt":
      case "rebuild":
        return `${blob.action} ${index} on ${blob.node}`;
      case "mend_cells":
        return `mend cells ${blob.cells.join()} of ${index} on ${blob.node}`;
      case "wait":
        return `wait for ${blob.for} ${index}`;
    }
  });
  const record = mendedSet(mend).nodes.map((node, index) => `${index}:${node ?? "--"}`);
  return [...lines, ...(mend.source === "enough" ? [] : [`source ${mend.source}`]), `record ${record.join(" ")}`].join(
    "\n",
  );
}

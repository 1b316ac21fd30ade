import { describe, expect, test } from "vitest";
import type { BucketName, NodeName, ObjectKey, VersionId } from "../../../src/domain/ids.ts";
import { blobIdOf, createTxidSource, parseBlobId } from "../../../src/domain/ids.ts";
import { keptSetName } from "../../../src/domain/kept-record.ts";
import type { AuditGroup, HeldBlob } from "../../../src/healer/audit-plan.ts";
import { collectWorks, judgeGroup } from "../../../src/healer/audit-plan.ts";
import type { SetEntry } from "../../../src/healer/lmdb-audit-scratch.ts";
import { systemRandom } from "../../../src/lib/random.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const txid = createTxidSource(new ManualClock(), systemRandom)();
const BYTES = 1_000;

/** A replicated set of which the record names `0:a 1:b 2:--`. */
function entry(places: string, more: Partial<SetEntry> = {}): SetEntry {
  const nodes = places.split(" ").map((place) => {
    const name = place.split(":")[1] as NodeName;
    return name === "--" ? null : name;
  });
  return {
    ...{ name: `${txid}.body`, bucket: "b" as BucketName, key: "k" as ObjectKey, version: txid as string as VersionId },
    ...{ nodes, needed: 1, cellCount: 1, payloadBytes: BYTES, ...more },
  };
}

/** What nodes hold: `0@a 1@b`; `!` behind a blob that is too short. */
function held(places: string): HeldBlob[] {
  return places.split(" ").flatMap((place): HeldBlob[] => {
    const [index, node] = place.replace("!", "").split("@");
    if (node === undefined) return [];
    const info = { id: blobIdOf(txid, "body", Number(index)), cellCount: 1, payloadBytes: BYTES };
    const isShort = place.endsWith("!");
    return [{ node: node as NodeName, info: { ...info, payloadBytes: isShort ? 10 : BYTES } as HeldBlob["info"] }];
  });
}

type Standings = Readonly<Record<string, "unasked" | "away" | "lost">>;

/** In one line: what is to be mended and why, how much is lacking, away and nobody's. */
function judge(entries: readonly SetEntry[], found: HeldBlob[], standings: Standings = {}): string {
  const group: AuditGroup = { name: `${txid}.body`, entries, held: found };
  const { work, lacking, awayCount, orphans } = judgeGroup(group, {
    nodeCount: 6,
    standingOf: (node) => standings[node] ?? "asked",
  });
  const works = work.map((one) => `${one.kind}${"reason" in one ? ` ${one.reason}` : ""} ${one.urgency}`);
  const strays = orphans.map(({ id, node }) => `${parseBlobId(id)?.index}@${node}`);
  return [
    ...works,
    ...(lacking.length === 0 ? [] : [`lacking on ${lacking.map(({ node }) => node ?? "--").join(" ")}`]),
    ...(awayCount === 0 ? [] : [`away ${awayCount}`]),
    ...(strays.length === 0 ? [] : [`nobody's ${strays.join(" ")}`]),
  ].join("; ");
}

describe("judgeGroup()", () => {
  test("finds nothing where every blob is where the record says", () => {
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b 2@c"))).toBe("");
  });

  test("has what is missing, too short, never stored or on a lost node mended, the more urgent the less is left", () => {
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b"))).toBe("mend missing 1; lacking on c");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b! 2@c"))).toBe("mend missing 1; lacking on b");
    expect(judge([entry("0:a 1:b 2:--")], held("0@a 1@b"))).toBe("mend dirty 1; lacking on --");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b"), { c: "lost" })).toBe("mend node_lost 1; lacking on c");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a"), { c: "lost" })).toBe("mend node_lost 0; lacking on b c");
    expect(judge([entry("0:a 1:b 2:c 3:d")], held("0@a 1@b 2@c"))).toBe("mend missing 2; lacking on d");
    expect(judge([entry("0:a 1:b 2:c 3:d 4:e 5:f", { needed: 4 })], held("0@a 1@b 2@c 3@d"))).toBe(
      "mend missing 0; lacking on e f",
    );
  });

  test("concludes nothing from silence, but counts it when something else is missing", () => {
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b"), { c: "away" })).toBe("away 1");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a"), { b: "unasked", c: "unasked" })).toBe("");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a"), { c: "away" })).toBe("mend missing 0; lacking on b; away 1");
  });

  test("calls nobody's what no record names there, and never what one names", () => {
    expect(judge([], held("0@a 1@b"))).toBe("nobody's 0@a 1@b");
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b 2@c 2@d 3@e"))).toBe("nobody's 2@d 3@e");
    // The right node with another of the set is not right.
    expect(judge([entry("0:a 1:b 2:c")], held("0@a 1@b 0@c"))).toBe("mend missing 1; lacking on c; nobody's 0@c");
    // What is too short is what the record means all the same.
    expect(judge([entry("0:a 1:b")], held("0@a 1@b!"))).toBe("mend missing 0; lacking on b");
  });

  test("lets several records name one set, each its own places", () => {
    const [one, other] = [entry("0:a 1:b"), entry("0:a 1:c", { key: "l" as ObjectKey })];
    expect(judge([one, other], held("0@a 1@b 1@c"))).toBe("");
    expect(judge([one, other], held("0@a 1@b"))).toBe("mend missing 0; lacking on c");
  });

  test("does not hurry for whole copies beside shards: nothing depends on them", () => {
    expect(judge([entry("0:a 1:b", { needed: 0 })], held("0@a"))).toBe("mend missing 2; lacking on b");
  });

  test("wants kept records on enough nodes, whichever they are", () => {
    const kept = entry("0:--", { name: keptSetName("v" as VersionId), nodes: null });
    expect(judge([kept], held("0@a 1@b 2@c 3@d"))).toBe("");
    expect(judge([kept], held("0@f 5@d 9@b"))).toBe("");
    expect(judge([kept], held("0@a 1@a 2@b"))).toBe("keep_record 2");
    expect(judge([kept], [])).toBe("keep_record 2");
  });
});

describe("collectWorks()", () => {
  test("makes one piece of work per node, of no more blobs than a piece may name", () => {
    const orphans = Array.from({ length: 600 }, (_, n) => ({
      id: blobIdOf(txid, "body", n % 20),
      node: (n % 2 === 0 ? "a" : "b") as NodeName,
    }));
    const works = collectWorks(orphans);
    expect(works.map((work) => work.kind === "collect" && [work.node, work.blobs.length])).toEqual([
      ["a", 256],
      ["a", 44],
      ["b", 256],
      ["b", 44],
    ]);
  });
});

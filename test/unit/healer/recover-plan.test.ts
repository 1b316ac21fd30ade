import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { BlobId, BucketName, NodeName, ObjectKey, Revision, Txid, VersionId } from "../../../src/domain/ids.ts";
import type { BlobSet, Manifest, PlacedBlob, Redundancy } from "../../../src/domain/manifest.ts";
import { placedBlobsOf, blobSetsOf } from "../../../src/domain/manifest.ts";
import type { ObjectRecord } from "../../../src/domain/record.ts";
import type { RecoverPlan, RecoverState } from "../../../src/healer/recover-plan.ts";
import { planRecovery } from "../../../src/healer/recover-plan.ts";
import { ALONE } from "../../../src/healer/recover.ts";

/**
 * Each file is a transcript: what recovery finds, a line of dashes, what it decides.
 *
 *   intent <txid> <redundancy> seen <revision> [replaces <blob@node> …]
 *   record absent | record <version> revision <n> [fenced <txid>] [forgot <txid>] [holds <txid> <index:node> …]
 *   blobs <index:node> …            (-- for one that was not found)
 *   strays <blob@node> …            (found on a further node; may be left out)
 *   writer dead | writer unknown
 *   answered <node> …               (nobody, and nothing can be refused later, when left out)
 *   unasked <node> …                (cannot be asked now; may be left out)
 *   gone <node> …                   (given up; may be left out)
 *   age <seconds> [fenced <seconds>] [replaced <seconds>] [over <seconds>]     (60, 0, 0 and 0 when left out)
 *
 * An unknown writer is one of a cluster: patience 60 s, second look 60 s, release 10 s. A dead one stands for the store
 * in one process, which waits for nodes without end and for nothing else. `clean-up` instead of a redundancy stands for
 * an intent that only remembers blobs.
 */
const dir = join(import.meta.dirname, "recover");
const IN_A_CLUSTER = { patienceMs: 60_000, lookAgainMs: 60_000, releaseMs: 10_000, restMs: 30_000 };

describe("planRecovery()", () => {
  for (const file of readdirSync(dir)) {
    it(`decides as written in ${basename(file, ".txt")}`, () => {
      const [given, expected] = readFileSync(join(dir, file), "utf8").split("----\n") as [string, string];
      expect(describePlan(planRecovery(parseState(given)))).toBe(expected.trim());
    });
  }
});

function parseState(text: string): RecoverState {
  const lines = new Map(
    text
      .trim()
      .split("\n")
      .map((line) => [line.split(" ")[0] as string, line]),
  );
  const [, txid, code, , seen, , ...replaces] = (lines.get("intent") ?? "").split(" ") as [string, Txid, ...string[]];
  const redundancy = parseRedundancy(code as string);
  const cleanUp = code === "clean-up";
  const planned = setOf(txid, redundancy, "0:n1 1:n2 2:n3 3:n4 4:n5 5:n6".split(" "));
  const writerDead = lines.get("writer") === "writer dead";
  const times = (lines.get("age") ?? "").split(" ");
  const secondsAfter = (word: string, otherwise: number) =>
    1_000 * (times.includes(word) ? Number(times[times.indexOf(word) + 1]) : otherwise);
  const found = setOf(txid, redundancy, (lines.get("blobs") ?? "").split(" ").slice(1));
  const record = lines.get("record") ?? "";
  return {
    intent: {
      txid,
      bucket: "b" as BucketName,
      key: "k" as ObjectKey,
      startedAtMs: 0,
      writer: cleanUp ? "" : "g1",
      revisionSeen: Number(seen) as Revision,
      planned: cleanUp ? [] : [planned],
      replaces: replaces.map(parseBlob),
    },
    stored: parseRecord(record, redundancy),
    found: cleanUp ? [] : [found],
    strays: (lines.get("strays") ?? "").split(" ").slice(1).map(parseBlob),
    draft: found.nodes.some((node) => node !== null) ? recordOf(txid, planned, []) : null,
    writerDead,
    answered: new Set((lines.get("answered") ?? "").split(" ").slice(1) as NodeName[]),
    unasked: new Set((lines.get("unasked") ?? "").split(" ").slice(1) as NodeName[]),
    givenUp: new Set((lines.get("gone") ?? "").split(" ").slice(1) as NodeName[]),
    ageMs: secondsAfter("age", 60),
    fenced: [`fenced ${txid}`, `forgot ${txid}`].some((words) => `${record} `.includes(` ${words} `)),
    fencedMs: secondsAfter("fenced", 0),
    replacedMs: secondsAfter("replaced", 0),
    overMs: secondsAfter("over", 0),
    bounds: writerDead ? ALONE : IN_A_CLUSTER,
  };
}

function parseRecord(line: string, redundancy: Redundancy): RecoverState["stored"] {
  const words = line.split(" ");
  if (words[1] === "absent") return null;
  const after = (word: string) => (words.includes(word) ? (words[words.indexOf(word) + 1] as string) : null);
  const holder = after("holds");
  const set = holder === null ? null : setOf(holder as Txid, redundancy, words.slice(words.indexOf("holds") + 2));
  const fenced = after("fenced");
  const record = recordOf(words[1] as Txid, set, fenced === null ? [] : [fenced as Txid]);
  return { record, revision: Number(after("revision")) as Revision };
}

function recordOf(version: string, set: BlobSet | null, fencedTxids: Txid[]): ObjectRecord {
  const manifest: Manifest =
    set === null
      ? { strategy: "inline", bytes: new Uint8Array(0) }
      : { strategy: set.redundancy.scheme === "ec" ? "ec" : "replication", body: set };
  return {
    state: "object",
    bucket: "b" as BucketName,
    key: "k" as ObjectKey,
    version: version as VersionId,
    modifiedAtMs: 0,
    sizeBytes: 0,
    etag: "",
    sha256: null,
    contentType: "",
    userMetadata: {},
    manifest,
    fencedTxids,
  };
}

function setOf(txid: Txid, redundancy: Redundancy, placed: readonly string[]): BlobSet {
  const count = redundancy.scheme === "ec" ? redundancy.k + redundancy.m : redundancy.copies;
  const nodes = Array.from({ length: count }, (_, index) => {
    const node = placed.find((entry) => entry.startsWith(`${index}:`))?.slice(2);
    return node === undefined || node === "--" ? null : (node as NodeName);
  });
  return { txid, part: "body", sizeBytes: 1, cellBytes: 64, redundancy, nodes };
}

function parseBlob(text: string): PlacedBlob {
  const [id, node] = text.split("@");
  return { id: id as BlobId, node: node as NodeName };
}

function parseRedundancy(text: string): Redundancy {
  const numbers = [...text.matchAll(/\d+/g)].map(Number) as [number, number];
  return text.startsWith("ec")
    ? { scheme: "ec", k: numbers[0], m: numbers[1] }
    : { scheme: "replication", copies: numbers[0] ?? 3 };
}

function describePlan(plan: RecoverPlan): string {
  if (plan.action === "wait") return "wait";
  const named = (verb: string, blobs: readonly PlacedBlob[]) => blobs.map(({ id, node }) => `${verb} ${id}@${node}`);
  const record = plan.action === "resurrect" ? blobSetsOf(plan.record.manifest).flatMap(placedBlobsOf) : [];
  const fence = plan.action === "roll_back" && plan.fence ? ["fence"] : [];
  return [
    plan.action,
    ...(plan.action === "resurrect" ? plan.record.fencedTxids.map((txid) => `fence ${txid}`) : []),
    ...fence,
    ...named("hold", record),
    ...named("remove", plan.remove),
    plan.after.step === "look_again" ? `look again in ${plan.after.inMs / 1_000} s` : plan.after.step,
    ...(plan.after.step === "clean_up" ? named("remember", plan.after.blobs) : []),
  ].join("\n");
}

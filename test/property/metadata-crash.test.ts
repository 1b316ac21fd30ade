import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ObjectKey, Revision } from "../../src/domain/ids.ts";
import { REVISION_NONE } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import type { LmdbEnvironment } from "../../src/lib/lmdb-environment.ts";
import { openLmdbMetadataStore } from "../../src/metadata/lmdb-metadata-store.ts";
import { openLmdbWal } from "../../src/wal/lmdb-wal.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import { BUCKET, sampleRecord } from "../support/sample-records.ts";

const WRITER = join(import.meta.dirname, "../support/crash-writer.ts");

test("kill -9 loses no acknowledged commit or intent, and no revision or sequence is given twice", async () => {
  // Each round goes on with what the killed ones before it left.
  const rounds = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 4, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(rounds, async (reportsBeforeKill) => {
      await using directory = await makeLmdbDirectory();
      const journalPath = `${directory.path}.journal`;
      let sequenceLast = 0;
      for (const [round, reports] of reportsBeforeKill.entries()) {
        await runAndKill([directory.path, journalPath, `${round}`], reports);
        const journal = await readJournal(journalPath);
        const environment = await directory.open();
        await checkCommits(environment, journal);
        sequenceLast = await checkIntents(environment, journal, sequenceLast);
        await directory.close();
      }
    }),
    { numRuns: 2, endOnFailure: true },
  );
});

async function runAndKill(given: readonly string[], reports: number): Promise<void> {
  const child = spawn(process.execPath, [WRITER, ...given], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  let seen = 0;
  for await (const _ of createInterface({ input: child.stdout })) {
    seen += 1;
    if (seen === reports) child.kill("SIGKILL");
  }
  expect((await exited)[1]).toBe("SIGKILL");
}

type Journal = {
  readonly commits: ReadonlyMap<string, { number: number; revision: number }>;
  readonly revisionLast: number;
  readonly open: ReadonlySet<string>;
};

async function readJournal(path: string): Promise<Journal> {
  const commits = new Map<string, { number: number; revision: number }>();
  const open = new Set<string>();
  let revisionLast = 0;
  for (const line of (await readFile(path, "utf8")).split("\n").slice(0, -1)) {
    const [kind, name, number, revision] = line.split(" ") as [string, string, string, string];
    if (kind === "append") open.add(name);
    if (kind === "settle") open.delete(name);
    if (kind !== "commit") continue;
    // Acknowledged in one batch they may be noted in any order, but those of one key follow each other.
    expect(Number(revision)).toBeGreaterThan(commits.get(name)?.revision ?? 0);
    commits.set(name, { number: Number(number), revision: Number(revision) });
    revisionLast = Math.max(revisionLast, Number(revision));
  }
  return { commits, revisionLast, open };
}

async function checkCommits(environment: LmdbEnvironment, journal: Journal): Promise<void> {
  const store = openLmdbMetadataStore({ environment, clock: systemClock });
  let objectBytes = 0;
  let revisionMax = 0;
  const found = await store.scan(null, 1_000, soon());
  for (const { record, revision } of found) {
    objectBytes += record.sizeBytes;
    revisionMax = Math.max(revisionMax, revision);
  }
  for (const [key, acknowledged] of journal.commits) {
    const stored = await store.get(BUCKET, key as ObjectKey, soon());
    // One commit of each key may have been under way: it happened or it did not.
    const ahead = (stored?.record.sizeBytes ?? 0) - acknowledged.number;
    expect([0, 1], key).toContain(ahead);
    if (ahead === 0) expect(stored?.revision).toBe(acknowledged.revision);
  }
  expect(await store.summarize(soon())).toEqual([{ bucket: BUCKET, objectCount: found.length, objectBytes }]);

  const stored = await store.get(BUCKET, "probe" as ObjectKey, soon());
  const result = await store.commit(
    { record: sampleRecord("probe"), ifRevision: stored?.revision ?? REVISION_NONE },
    soon(),
  );
  expect(result.ok && result.revision).toBeGreaterThan(Math.max(revisionMax, journal.revisionLast) as Revision);
  await store.close();
}

/** Answers the highest sequence seen. */
async function checkIntents(environment: LmdbEnvironment, journal: Journal, sequenceLast: number): Promise<number> {
  const wal = openLmdbWal({ environment, clock: systemClock });
  const entries = await wal.readOpen(0, 1_000_000, soon());
  const found = new Set(entries.map(({ intent }) => intent.txid as string));
  expect([...journal.open].filter((txid) => !found.has(txid))).toEqual([]);
  const sequences = entries.map(({ sequence }) => sequence);
  expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
  await wal.close();
  expect(sequences.at(-1)).toBeGreaterThan(sequenceLast);
  return sequences.at(-1) ?? sequenceLast;
}

function soon() {
  return deadlineIn(systemClock, 30_000);
}

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CRASH_WRITES } from "../support/crash-writes.ts";
import type { CrashWrite } from "../support/crash-writes.ts";
import { noise, openTestStore } from "../support/store.ts";

const CHILD = join(import.meta.dirname, "../support/crash-child.ts");
/** After these the record is committed: nothing but the new state is right. */
const COMMITTED = new Set([
  "put.committed",
  "put.settled",
  "patch.committed",
  "delete.committed",
  "undelete.committed",
]);

describe("kill -9 at every step of every kind of write", () => {
  for (const [name, write] of Object.entries(CRASH_WRITES) as [string, CrashWrite][]) {
    it(`leaves ${name} wholly there or wholly absent, and nothing else`, async () => {
      const prepared = await mkdtemp(join(tmpdir(), "kintsugi-crash-"));
      try {
        await prepare(prepared, write);
        let killed = 0;
        for (const step of write.steps) killed += Number(await crashAt(prepared, name, write, step));
        expect(killed, "steps reached").toBeGreaterThanOrEqual(Math.min(3, write.steps.length));
      } finally {
        await rm(prepared, { recursive: true });
      }
    }, 120_000);
  }
});

async function prepare(dir: string, write: CrashWrite): Promise<void> {
  const store = await openTestStore({ dir });
  await store.put("bystander", noise(70_000, 9), { strategy: "ec" });
  await write.prepare(store);
  await store.store.close();
}

/** Answers whether the process was killed, as some writes do not have some steps. */
async function crashAt(prepared: string, name: string, write: CrashWrite, step: string): Promise<boolean> {
  const dir = await mkdtemp(join(tmpdir(), "kintsugi-crash-"));
  execFileSync("cp", ["-r", "--sparse=always", `${prepared}/.`, dir]);
  const child = await runChild(dir, name, step);
  const context = `${step} (${child.killed ? "killed" : "not reached"}${child.acknowledged ? ", acknowledged" : ""})`;

  await using store = await openTestStore({ dir });
  const bytes = await store.get("k");
  const isNew = equals(bytes, write.after);
  if (child.acknowledged || COMMITTED.has(step)) expect(isNew, context).toBe(true);
  else expect(isNew || equals(bytes, write.before), context).toBe(true);
  expect((await store.get("bystander"))?.equals(noise(70_000, 9)), context).toBe(true);
  expect(await store.orphans(), context).toEqual([]);
  expect(await store.openIntents(), context).toBe(0);
  const listed = await store.store.deps.metadata.list("default" as never, LIST_ALL, { atMs: Number.MAX_SAFE_INTEGER });
  expect(
    listed.entries.some(({ record }) => record.key === "k"),
    context,
  ).toBe(bytes !== null);
  await store.put("k", noise(1_000, 3));
  expect((await store.get("k"))?.equals(noise(1_000, 3)), context).toBe(true);
  return child.killed;
}

const LIST_ALL = { prefix: "", delimiter: "", after: "", limit: 100 };

function equals(bytes: Buffer | null, expected: Buffer | null): boolean {
  return bytes === null || expected === null ? bytes === expected : bytes.equals(expected);
}

async function runChild(dir: string, name: string, step: string): Promise<{ killed: boolean; acknowledged: boolean }> {
  const child = spawn(process.execPath, [CHILD, dir, name, step], { stdio: ["ignore", "pipe", "pipe"] });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  const text = Buffer.concat(output).toString();
  const killed = signal === "SIGKILL";
  if (!killed && code !== 0) throw new Error(`The child failed at ${step}: ${Buffer.concat(errors).toString()}`);
  return { killed, acknowledged: text.includes("acknowledged") };
}

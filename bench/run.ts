/**
 * The canonical benchmark: `npm run bench`, without arguments everything. Options: `--only ROW` (may be repeated),
 * `--runtime node|bun|deno`, `--quick`. Ends with 1 when a row could not be measured; aims that are missed are printed,
 * not punished, because machines differ.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine, machineLine } from "./machine.ts";
import { printRow, writeReport, type ReportRow } from "./report.ts";
import type { Row } from "./row.ts";
import { clusterLarge } from "./rows/cluster-large.ts";
import { clusterNats } from "./rows/cluster-nats.ts";
import { clusterPatch } from "./rows/cluster-patch.ts";
import { clusterSlowNode } from "./rows/cluster-slow-node.ts";
import { clusterGetInline, clusterGetSmall, clusterPutInline, clusterPutSmall } from "./rows/cluster-small.ts";
import { auditMillion, auditObjects } from "./rows/audit.ts";
import { healNode } from "./rows/heal-node.ts";
import { hotPatch } from "./rows/hot-patch.ts";
import { getLarge, putLarge } from "./rows/large-objects.ts";
import { uploadMemory } from "./rows/memory.ts";
import { overhead } from "./rows/overhead.ts";
import { reclaimSpace } from "./rows/reclaim-space.ts";
import { getSmall, putSmall } from "./rows/small-objects.ts";
import { start } from "./rows/start.ts";
import { thousandObjects } from "./rows/thousand-objects.ts";
import { zipfCache } from "./rows/zipf-cache.ts";
import { RUNTIMES, runtimeProblem, type Runtime } from "../test/support/runtimes.ts";

const ROWS: readonly Row[] = [
  putSmall,
  getSmall,
  hotPatch,
  putLarge,
  getLarge,
  uploadMemory,
  overhead,
  start,
  thousandObjects,
  zipfCache,
  reclaimSpace,
  auditObjects,
  auditMillion,
  clusterPutSmall,
  clusterPutInline,
  clusterGetSmall,
  clusterGetInline,
  clusterLarge,
  clusterPatch,
  clusterNats,
  clusterSlowNode,
  healNode,
];

/** On the same disk as the checkout, which is where `npm start` keeps its data; a temporary directory may be memory. */
const SCRATCH = join(import.meta.dirname, "../.cache/bench");

type Options = { readonly rows: readonly Row[]; readonly runtime: Runtime | null; readonly quick: boolean };

async function main(args: string[]): Promise<number> {
  const options = readOptions(args);
  const machine = describeMachine();
  console.log(machineLine(machine));
  const rows: ReportRow[] = [];
  for (const row of options.rows) {
    // A runtime that was asked for measures every row; else each row names those it is compared on.
    for (const runtime of options.runtime ? [options.runtime] : row.runtimes) {
      const measured = await measureRow(row, runtime, options.quick);
      printRow(measured);
      rows.push(measured);
    }
  }
  rmSync(SCRATCH, { recursive: true, force: true });
  const paths = writeReport({ machine, quick: options.quick, rows });
  console.log(`\nWritten to ${paths.join(" and ")}`);
  return rows.some((row) => row.result === null) ? 1 : 0;
}

async function measureRow(row: Row, runtime: Runtime, quick: boolean): Promise<ReportRow> {
  const named = { name: row.name, title: row.title, runtime };
  const problem = runtimeProblem(runtime);
  if (problem) return { ...named, result: null, error: problem };
  const directory = join(SCRATCH, `${row.name}-${runtime}`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  try {
    const result = await row.run({ runtime, directory, quick, samples: quick ? 1 : 3, seconds: quick ? 2 : 5 });
    return { ...named, result, error: null };
  } catch (cause) {
    return { ...named, result: null, error: String(cause) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string", multiple: true, default: [] },
      runtime: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const runtime = RUNTIMES.find((name) => name === values.runtime) ?? null;
  if (values.runtime !== undefined && runtime === null) refuse(`no runtime "${values.runtime}"`, RUNTIMES);
  const names = ROWS.map((row) => row.name);
  for (const name of values.only) if (!names.includes(name)) refuse(`no row "${name}"`, names);
  const rows = values.only.length === 0 ? ROWS : ROWS.filter((row) => values.only.includes(row.name));
  return { rows, runtime, quick: values.quick };
}

function refuse(what: string, known: readonly string[]): never {
  console.error(`There is ${what}; there are ${known.join(", ")}`);
  process.exit(2);
}

process.exitCode = await main(process.argv.slice(2));

/** What a benchmark leaves behind: lines while it runs, one JSON and one Markdown file at the end. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { machineLine, type Machine } from "./machine.ts";
import type { Figure, RowResult } from "./row.ts";
import type { Runtime } from "../test/support/runtimes.ts";

export type ReportRow = {
  readonly name: string;
  readonly title: string;
  readonly runtime: Runtime;
  /** Absent when the row could not be measured. */
  readonly result: RowResult | null;
  readonly error: string | null;
};

export type Report = { readonly machine: Machine; readonly quick: boolean; readonly rows: readonly ReportRow[] };

const RESULTS = join(import.meta.dirname, "results");

/** One row as it is printed while the benchmark runs. */
export function printRow(row: ReportRow): void {
  console.log(`\n${row.title} — ${row.runtime}`);
  if (!row.result) {
    console.log(`  failed: ${row.error}`);
    return;
  }
  for (const figure of row.result.measured) console.log(`  ${figure.label}: ${formatFigure(figure)}`);
  for (const figure of row.result.yardsticks) console.log(`  yardstick, ${figure.label}: ${formatFigure(figure)}`);
  for (const aim of row.result.aims) console.log(`  ${aim.met ? "✓" : "✗"} ${aim.text}`);
  for (const note of row.result.notes) console.log(`  ${note}`);
}

/** Writes both files. Answers their paths. */
export function writeReport(report: Report): string[] {
  mkdirSync(RESULTS, { recursive: true });
  const runtimes = [...new Set(report.rows.map((row) => row.runtime))];
  const stamp = report.machine.date.replace(" ", "T").replace(":", "");
  const name = join(RESULTS, `${stamp}-${runtimes.join("-")}${report.quick ? "-quick" : ""}`);
  writeFileSync(`${name}.json`, `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(`${name}.md`, markdownOf(report));
  return [`${name}.json`, `${name}.md`];
}

export function markdownOf(report: Report): string {
  const caution = report.quick
    ? ["", "A quick run: it shows that the benchmark works, its figures are not for quoting."]
    : [];
  return [
    "# Benchmark",
    "",
    `${machineLine(report.machine)}. Server and client share the cores; medians, each yardstick from the same run.`,
    ...caution,
    "",
    "| work | runtime | measured | yardstick | aims |",
    "|---|---|---|---|---|",
    ...report.rows.map(markdownRow),
    "",
  ].join("\n");
}

function markdownRow(row: ReportRow): string {
  if (!row.result) return `| ${row.title} | ${row.runtime} | failed: ${row.error?.split("\n")[0]} | | ✗ |`;
  const { measured, yardsticks, aims, notes } = row.result;
  const list = (figures: readonly Figure[]) => figures.map((figure) => `${figure.label} ${formatFigure(figure)}`);
  const judged = aims.map((aim) => `${aim.met ? "✓" : "✗"} ${aim.text}`);
  return `| ${[row.title, row.runtime, [...list(measured), ...notes].join("<br>"), list(yardsticks).join("<br>") || "–", judged.join("<br>")].join(" | ")} |`;
}

function formatFigure({ value, unit }: Figure): string {
  const digits = unit === "×" ? 2 : value !== 0 && Math.abs(value) < 10 ? 1 : 0;
  const number = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(
    value,
  );
  return unit === "×" || unit === "/s" ? `${number}${unit}` : `${number} ${unit}`;
}

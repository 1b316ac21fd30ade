import { formatBytes } from "../lib/bytes.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { displayText, formatTable, writeLine, type CliIo } from "./io.ts";
import { outline } from "./stat.ts";

type Fields = Readonly<Record<string, unknown>>;

/** `kintsugi status`: health in one line, then the nodes. Exit code 6 where the store says that it is not well. */
export async function runStatus(io: CliIo, options: ClientOptions): Promise<ExitCode> {
  const told = await withClient(io, options, (client) => client.status());
  const health = fieldsOf(told.health);
  const stats = fieldsOf(told.stats);
  if (options.json) {
    await writeLine(io.stdout, JSON.stringify({ health, stats }));
  } else {
    const { nodes: nodesHealth, ...rest } = health;
    const nodes = nodesOf(stats["nodes"]) ?? nodesOf(nodesHealth);
    const { nodes: _, health: __, ...figures } = stats;
    for (const line of [...outline(rest), ...outline(figures)]) await writeLine(io.stdout, line);
    for (const line of nodes === null ? [] : ["", ...nodesTable(nodes)]) await writeLine(io.stdout, line);
  }
  return health["status"] === "ok" ? EXIT.ok : EXIT.unavailable;
}

function nodesTable(nodes: readonly Fields[]): string[] {
  const columns = [...new Set(nodes.flatMap((node) => Object.keys(node)))];
  const rows = nodes.map((node) => columns.map((column) => cell(column, node[column])));
  return formatTable([columns.map((column) => headingOf(column)), ...rows]);
}

/** `diskFreeBytes` becomes `DISK FREE`. */
function headingOf(column: string): string {
  return column
    .replace(/Bytes$/, "")
    .replace(/[A-Z]/g, (letter) => ` ${letter}`)
    .toUpperCase();
}

function cell(column: string, value: unknown): string {
  if (typeof value === "number" && column.endsWith("Bytes")) return formatBytes(value);
  return displayText(
    typeof value === "string" || typeof value === "number" ? String(value) : JSON.stringify(value ?? "-"),
  );
}

function nodesOf(value: unknown): Fields[] | null {
  return Array.isArray(value) ? value.map((node) => flatten(fieldsOf(node))) : null;
}

/** Figures that stand in a group of their own become columns too. */
function flatten(fields: Fields): Fields {
  const columns: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const isGroup = typeof value === "object" && value !== null && !Array.isArray(value);
    Object.assign(columns, isGroup ? value : { [name]: value });
  }
  return columns;
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

import { formatBytes } from "../lib/bytes.ts";
import { drawCluster, fieldsOf, type Fields } from "./cluster-map.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { displayText, formatTable, writeLine, type CliIo } from "./io.ts";
import { outline } from "./stat.ts";

/** `kintsugi status`: a cluster is drawn; of a single store health in one line, then the nodes. Exit code 6 where the store says that it is not well. */
export async function runStatus(io: CliIo, options: ClientOptions): Promise<ExitCode> {
  const told = await withClient(io, options, (client) => client.status());
  const health = fieldsOf(told.health);
  const stats = fieldsOf(told.stats);
  const lines = options.json
    ? [JSON.stringify({ health, stats })]
    : (drawCluster(health, stats) ?? outlineStore(health, stats));
  for (const line of lines) await writeLine(io.stdout, line);
  return health["status"] === "ok" ? EXIT.ok : EXIT.unavailable;
}

function outlineStore(health: Fields, stats: Fields): string[] {
  const { nodes: nodesHealth, ...rest } = health;
  const nodes = nodesOf(stats["nodes"]) ?? nodesOf(nodesHealth);
  const { nodes: _, health: __, ...figures } = stats;
  return [...outline(rest), ...outline(figures), ...(nodes === null ? [] : ["", ...nodesTable(nodes)])];
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

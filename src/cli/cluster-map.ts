/** A cluster as `kintsugi status` draws it: what is wrong first, then who is there and how they are doing. */
import { formatBytes } from "../lib/bytes.ts";
import { displayText, formatTable } from "./io.ts";

export type Fields = Readonly<Record<string, unknown>>;

const STATE_SIGNS: Readonly<Record<string, string>> = { live: "●", ok: "●", suspect: "◐", degraded: "◐" };
const SIGN_OF_OTHERS = "○";
const LEADER_SIGN = "★";
const BAR_CELLS = 10;

/** Lines for a terminal, or null where the answers are not those of a cluster. Unknown fields are left out, missing ones shown as `-`. */
export function drawCluster(health: Fields, stats: Fields): string[] | null {
  const processes = listOf(stats["processes"]);
  if (processes.length === 0) return null;
  const nodes = listOf(stats["nodes"]);
  const ofRole = (role: string) => processes.filter((process) => process["role"] === role);
  const leader = fieldsOf(stats["coordination"])["leader"];
  return [
    ...headline(health, stats),
    "",
    ...table(["GATEWAYS", ...PROCESS_COLUMNS, "BEHIND"], ofRole("gateway").map(gatewayRow)),
    "",
    ...table(
      ["HEALERS", ...PROCESS_COLUMNS, "OPEN INTENTS"],
      ofRole("healer").map((healer) => healerRow(healer, leader)),
    ),
    "",
    ...table(
      ["NODES", ...PROCESS_COLUMNS, "PLACE", "BLOBS", "STORED", "DISK FREE", "SHARE"],
      ofRole("node").map((process) => nodeRow(process, nodes)),
    ),
    "",
    ...table(
      ["STREAMS", "LEADER", "COPIES", "MESSAGES", "SIZE"],
      listOf(stats["streams"]).map((stream) => [
        `  ${text(stream["name"])}`,
        text(stream["leader"]),
        `${text(stream["replicasCurrent"])} of ${text(stream["replicasTotal"])}`,
        text(stream["messageCount"]),
        bytes(stream["bytes"]),
      ]),
    ),
  ];
}

const PROCESS_COLUMNS = ["STATE", "ADDRESS", "CPU", "MEMORY", "UP"] as const;

function headline(health: Fields, stats: Fields): string[] {
  const totals = fieldsOf(stats["totals"]);
  const { server, leader } = fieldsOf(stats["coordination"]);
  const overhead = totals["overhead"];
  const stored = `${text(totals["objectCount"])} objects, ${bytes(totals["objectBytes"])}`;
  const problems = Array.isArray(health["problems"]) ? (health["problems"] as unknown[]) : [];
  return [
    `${signOf(health["status"])} ${text(health["status"])}: ${text(health["nodesLive"])} of ${text(health["nodesTotal"])} nodes live, ${leader === null ? "no healer leads" : `${text(leader)} leads`}`,
    ...problems.map((problem) => `  ! ${text(problem)}`),
    `  ${stored}${typeof overhead === "number" ? `, ${overhead.toFixed(2)} bytes on nodes for each` : ""}; asked at NATS ${text(server)}`,
  ];
}

function gatewayRow(process: Fields): string[] {
  return [...processRow(process, signOf(process["state"])), `${text(loadOf(process)["indexLag"])} commits`];
}

function healerRow(process: Fields, leader: unknown): string[] {
  const leads = process["name"] === leader;
  const { openIntents } = loadOf(process);
  return [...processRow(process, leads ? LEADER_SIGN : signOf(process["state"])), leads ? text(openIntents) : "-"];
}

/** The node's state is the one that decides what it is asked for; that of its process says only whether it is heard. */
function nodeRow(process: Fields, nodes: readonly Fields[]): string[] {
  const node = nodes.find((candidate) => candidate["name"] === process["name"]) ?? {};
  const state = node["state"] ?? process["state"];
  const { blobCount, liveBytes, diskFreeBytes } = { ...loadOf(process), ...fieldsOf(node["usage"]) };
  return [
    ...processRow({ ...process, state }, signOf(state)),
    `${text(process["region"])}/${text(process["zone"])}`,
    text(blobCount),
    bytes(liveBytes),
    bytes(diskFreeBytes),
    bar(liveBytes, nodes),
  ];
}

function processRow(process: Fields, sign: string): string[] {
  const { cpuPercent, rssBytes } = loadOf(process);
  const state = text(process["state"]);
  return [
    `${sign} ${text(process["name"])}`,
    state,
    text(process["address"]).replace(/^https?:\/\//, ""),
    typeof cpuPercent === "number" ? `${cpuPercent} %` : "-",
    bytes(rssBytes),
    duration(process["uptimeMs"]),
  ];
}

/** How much of what the fullest node holds is on this one. */
function bar(liveBytes: unknown, nodes: readonly Fields[]): string {
  const most = Math.max(1, ...nodes.map((node) => Number(fieldsOf(node["usage"])["liveBytes"] ?? 0)));
  const filled = Math.round((BAR_CELLS * (typeof liveBytes === "number" ? liveBytes : 0)) / most);
  return "█".repeat(Math.min(BAR_CELLS, filled)).padEnd(BAR_CELLS, "░");
}

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return formatTable([[`  ${heading[0]}`, ...heading.slice(1)], ...rows]);
}

function signOf(state: unknown): string {
  return STATE_SIGNS[String(state)] ?? SIGN_OF_OTHERS;
}

function duration(value: unknown): string {
  if (typeof value !== "number") return "-";
  const seconds = Math.floor(value / 1_000);
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600), Math.floor(seconds / 60)];
  if (days > 0) return `${days} d`;
  if (hours > 0) return `${hours} h`;
  return minutes > 0 ? `${minutes} min` : `${seconds} s`;
}

function bytes(value: unknown): string {
  return typeof value === "number" ? formatBytes(value) : "-";
}

function text(value: unknown): string {
  return displayText(typeof value === "string" || typeof value === "number" ? String(value) : "-");
}

function loadOf(process: Fields): Fields {
  return fieldsOf(process["load"]);
}

function listOf(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

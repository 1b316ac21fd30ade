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
    ...table(["GATEWAYS", ...PROCESS_COLUMNS, "BEHIND", "CACHE", "CACHE HITS"], ofRole("gateway").map(gatewayRow)),
    "",
    ...table(
      ["HEALERS", ...PROCESS_COLUMNS, "OPEN INTENTS", "EVENTS TO SEND"],
      ofRole("healer").map((healer) => healerRow(healer, leader)),
    ),
    "",
    ...table(
      ["NODES", ...PROCESS_COLUMNS, "PLACE", "BLOBS", "STORED", "DISK FREE", "SHARE OF ALL"],
      ofRole("node").map((process) => nodeRow(process, nodes)),
    ),
    "",
    ...table(["STREAMS", "LEADER", "COPIES", "MESSAGES", "SIZE"], streamRows(stats)),
  ];
}

const PROCESS_COLUMNS = ["STATE", "ADDRESS", "CPU", "MEMORY", "UP"] as const;

function headline(health: Fields, stats: Fields): string[] {
  const totals = fieldsOf(stats["totals"]);
  const { leader, leaderKnown } = fieldsOf(stats["coordination"]);
  const { overhead, liveBytes } = totals;
  const stored = `${count(totals["objectCount"], "object")}, ${bytes(totals["objectBytes"])}`;
  const onNodes = typeof overhead === "number" ? `, on nodes ${bytes(liveBytes)} (${overhead.toFixed(2)} ×)` : "";
  const nobody = leaderKnown === false ? "who leads is not known" : "no healer leads";
  const problems = Array.isArray(health["problems"]) ? (health["problems"] as unknown[]) : [];
  return [
    `${signOf(health["status"])} ${text(health["status"])}: ${text(health["nodesLive"])} of ${text(health["nodesTotal"])} nodes live, ${leader === null ? nobody : `${text(leader)} leads`}`,
    ...problems.map((problem) => `  ! ${text(problem)}`),
    `  ${stored}${onNodes}`,
  ];
}

function gatewayRow(process: Fields): string[] {
  const { indexLag, cacheBytes, cacheHits, cacheMisses } = heardLoadOf(process);
  const asked = Number(cacheHits) + Number(cacheMisses);
  return [
    ...processRow(process, signOf(process["state"])),
    count(indexLag, "commit"),
    bytes(cacheBytes),
    asked > 0 ? `${Math.round((100 * Number(cacheHits)) / asked)} %` : "-",
  ];
}

function healerRow(process: Fields, leader: unknown): string[] {
  const leads = process["name"] === leader;
  const { openIntents, eventLag } = leads ? heardLoadOf(process) : {};
  return [...processRow(process, leads ? LEADER_SIGN : signOf(process["state"])), text(openIntents), text(eventLag)];
}

/** The node's state is the one that decides what it is asked for; that of its process says only whether it is heard. */
function nodeRow(process: Fields, nodes: readonly Fields[]): string[] {
  const node = nodes.find((candidate) => candidate["name"] === process["name"]) ?? {};
  const state = node["state"] ?? process["state"];
  const { blobCount, liveBytes, diskFreeBytes } = { ...heardLoadOf(process), ...fieldsOf(node["usage"]) };
  return [
    ...processRow(process, signOf(state), state),
    `${text(process["region"])}/${text(process["zone"])}`,
    text(blobCount),
    bytes(liveBytes),
    bytes(diskFreeBytes),
    bar(liveBytes, nodes),
  ];
}

/** What is known of somebody who is not heard is old, so how long that has been stands in its place. */
function processRow(process: Fields, sign: string, state = process["state"]): string[] {
  const { cpuPercent, rssBytes } = heardLoadOf(process);
  return [
    `${sign} ${text(process["name"])}`,
    text(state),
    text(process["address"]).replace(/^https?:\/\//, ""),
    typeof cpuPercent === "number" ? `${cpuPercent} %` : "-",
    bytes(rssBytes),
    isHeard(process) ? duration(process["uptimeMs"]) : `silent ${duration(process["silentMs"])}`,
  ];
}

/** Those without a leader tell nothing of themselves. */
function streamRows(stats: Fields): string[][] {
  const streams = listOf(stats["streams"]);
  const { streamsWaiting } = fieldsOf(stats["coordination"]);
  const waiting = Array.isArray(streamsWaiting) ? (streamsWaiting as unknown[]) : [];
  const silent = waiting.filter((name) => streams.every((stream) => stream["name"] !== name));
  return [
    ...streams.map((stream) => [
      `  ${text(stream["name"])}`,
      waiting.includes(stream["name"]) ? "none" : text(stream["leader"]),
      `${text(stream["replicasCurrent"])} of ${text(stream["replicasTotal"])}`,
      text(stream["messageCount"]),
      bytes(stream["bytes"]),
    ]),
    ...silent.map((name) => [`  ${text(name)}`, "none", "-", "-", "-"]),
  ];
}

/** How much of all that is stored is on this node. */
function bar(liveBytes: unknown, nodes: readonly Fields[]): string {
  if (typeof liveBytes !== "number") return "-";
  const all = nodes.reduce((sum, node) => sum + Number(fieldsOf(node["usage"])["liveBytes"] ?? 0), 0);
  const share = Math.min(1, liveBytes / Math.max(1, all, liveBytes));
  const filled = "█".repeat(Math.round(BAR_CELLS * share)).padEnd(BAR_CELLS, "░");
  return `${filled} ${Math.round(100 * share)} %`;
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

function count(value: unknown, one: string): string {
  return typeof value === "number" ? `${value} ${value === 1 ? one : `${one}s`}` : "-";
}

function bytes(value: unknown): string {
  return typeof value === "number" ? formatBytes(value) : "-";
}

function text(value: unknown): string {
  return displayText(typeof value === "string" || typeof value === "number" ? String(value) : "-");
}

function heardLoadOf(process: Fields): Fields {
  return isHeard(process) ? fieldsOf(process["load"]) : {};
}

function isHeard(process: Fields): boolean {
  return process["state"] === "live";
}

function listOf(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

/** What a person reads when the cluster is up: who is where, and what to try. Pure text. */
import { relative } from "node:path";
import { NATS_USER, SECRET_FILES, type ClusterPlan, type ProcessRole } from "./plan.ts";

export type MapInput = {
  readonly plan: ClusterPlan;
  readonly pidOf: (name: string) => number;
  readonly startedInMs: number;
  /** What the gateways find wrong, in their words. */
  readonly problems: readonly string[];
  readonly restart: boolean;
  /** Paths are shown as seen from here. */
  readonly cwd: string;
};

export function clusterMap({ plan, pidOf, startedInMs, problems, restart, cwd }: MapInput): string {
  const dir = relative(cwd, plan.dir) || ".";
  const state = problems.length === 0 ? "is ready" : "has started";
  const isBelow = (path: string) => (path.startsWith("..") ? plan.dir : path);
  return [
    `Kintsugi cluster ${state} at ${plan.url} after ${(startedInMs / 1_000).toFixed(1)} s`,
    ...problems.map((problem) => `  ${problem}`),
    "",
    ...processTable(plan, pidOf),
    "",
    `Data, secrets and logs are in ${isBelow(dir)}: NAME/, secrets/, logs/NAME.log`,
    "",
    ...thingsToTry(plan, isBelow(dir)),
    "",
    ...thingsToBreak(plan, pidOf, restart),
    "",
    "Ctrl-C stops everything in order.",
  ].join("\n");
}

function processTable(plan: ClusterPlan, pidOf: (name: string) => number): string[] {
  const rows = plan.processes.map(({ name, role, url }) => [name, String(pidOf(name)), url, ROLE_TASKS[role]]);
  const all = [["NAME", "PID", "ADDRESS", "WHAT IT DOES"], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...all.map((row) => (row[column] as string).length)));
  return all.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}`.trimEnd());
}

const ROLE_TASKS: Readonly<Record<ProcessRole, string>> = {
  nginx: "spreads requests over the gateways",
  gateway: "REST and NATS in front, hashing, coding, commits",
  node: "stores shards",
  healer: "recovers, repairs, collects; one of them leads",
  nats: "metadata and write-ahead log",
};

function thingsToTry({ url, processes, natsUrls }: ClusterPlan, dir: string): string[] {
  const other = processes.findLast(({ role }) => role === "gateway")?.url ?? url;
  const file = "package-lock.json";
  const login = `${NATS_USER}:$(cat ${dir}/${SECRET_FILES.natsPassword})`;
  const natsUrl = (natsUrls[0] as string).replace("://", `://${login}@`);
  return [
    "Try it in another terminal:",
    `  curl -sS -T ${file} '${url}/objects/lock?strategy=ec'`,
    `  curl -sS ${other}/objects/lock | cmp - ${file} && echo identical    # through another gateway`,
    `  npx kintsugi status --url ${url}`,
    `  KINTSUGI_NATS="${natsUrl}" npx kintsugi ls    # over NATS`,
  ];
}

function thingsToBreak({ processes }: ClusterPlan, pidOf: (name: string) => number, restart: boolean): string[] {
  const victims = (["node", "gateway", "nats"] as const).flatMap(
    (role) => processes.find((one) => one.role === role) ?? [],
  );
  const after = restart ? "each comes back by itself" : "what ends stays down";
  return [
    `See it heal: kill any of them while you put and get; ${after}:`,
    ...victims.map(({ name }) => `  kill -9 ${pidOf(name)}    # ${name}`),
  ];
}

/** Healing as `kintsugi heal status` draws it. */
import type { HealingStatus, Incident, TrackReport } from "../domain/healing.ts";
import { formatBytes } from "../lib/bytes.ts";
import { describeJob } from "./follow-job.ts";
import { displayText, formatTable } from "./io.ts";

const LATEST = 8;
const STATE_SIGNS: Readonly<Record<string, string>> = {
  busy: "●",
  idle: "○",
  throttled: "◐",
  paused: "‖",
  failing: "✗",
};

/** Lines for a terminal. */
export function drawHealing(status: HealingStatus): string[] {
  const { leader, replicationLag, waiting, tracks, jobs, incidents } = status;
  const lag = replicationLag === null ? "not known yet" : String(replicationLag);
  const [first = 0, second = 0, third = 0] = waiting;
  return [
    `${leader === null ? "nobody" : displayText(leader)} leads, replication lag ${lag}, work waiting ${first} urgent, ${second} soon, ${third} some time`,
    "",
    ...formatTable([["  TRACK", "PROCESS", "STATE", "PROGRESS", "BOUND", "FIGURES"], ...tracks.map(trackRow)]),
    ...section("JOBS", jobs.slice(-LATEST).toReversed().map(describeJob)),
    ...section("INCIDENTS", incidents.slice(-LATEST).toReversed().map(describeIncident)),
  ];
}

function section(heading: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ["", `  ${heading}`, ...lines.map((line) => `  ${line}`)];
}

function trackRow({ track, process, state, progress, bytesPerSecondMax, figures, failure }: TrackReport): string[] {
  const counts = Object.entries(figures)
    .filter(([name, value]) => name !== "runs" && value !== 0)
    .map(([name, value]) => `${displayText(name)} ${name.endsWith("Bytes") ? formatBytes(value) : value}`);
  return [
    `${STATE_SIGNS[state] ?? " "} ${track}`,
    displayText(process),
    state,
    progress === null ? "-" : progressText(progress),
    bytesPerSecondMax === null ? "-" : `${formatBytes(bytesPerSecondMax)}/s`,
    failure === null ? counts.join(", ") : displayText(failure),
  ];
}

function progressText({ done, total, unit }: NonNullable<TrackReport["progress"]>): string {
  const figure = (value: number) => (unit === "bytes" ? formatBytes(value) : String(value));
  const share = total === null || total === 0 ? "" : ` (${Math.floor((100 * done) / total)} %)`;
  const named = unit === "bytes" ? "" : ` ${displayText(unit)}`;
  return `${figure(done)}${total === null ? "" : ` of ${figure(total)}`}${named}${share}`;
}

function describeIncident({ kind, node, noticedAtMs, repairMs, objects, bytes }: Incident): string {
  const what = `${kind.replace("_", " ")}${node === null ? "" : ` ${displayText(node)}`}`;
  const end = repairMs === null ? "being mended" : `mended in ${(repairMs / 1_000).toFixed(1)} s`;
  const loss = objects === 0 ? "nothing was lacking" : `${objects} objects lacked ${formatBytes(bytes)}`;
  return `${new Date(noticedAtMs).toISOString()}  ${what}  ${end}${objects === 0 && repairMs === null ? "" : `, ${loss}`}`;
}

/** What is left of a campaign that failed: what to run to see it again, and everything needed to understand it. */
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CampaignResult } from "./campaign.ts";
import { describeFault, FAULT_KINDS } from "./schedule/plan-faults.ts";
import type { Options } from "./options.ts";

const SHOWN_MAX = 12;
/** Kept; whatever else the cluster had is data. */
const KEPT: ReadonlySet<string> = new Set(["logs", "kintsugi.yaml"]);

/** Lines for a terminal. Writes history, schedule and findings beside the logs in `dir`, and removes the data. */
export async function writeReport(dir: string, result: CampaignResult, options: Options): Promise<string[]> {
  const { problems, violations, recorder, schedule } = result;
  const findings = [
    ...violations.map(({ key, reason, operations }) => [`${key}: ${reason}`, ...operations].join("\n    ")),
    ...problems,
  ];
  await removeData(dir);
  const lines = recorder.operations.map((operation) => JSON.stringify(operation));
  await writeFile(join(dir, "history.jsonl"), `${lines.join("\n")}\n`);
  await writeFile(join(dir, "schedule.txt"), `${schedule.map(describeFault).join("\n")}\n`);
  await writeFile(join(dir, "findings.txt"), `${findings.join("\n\n")}\n`);
  const more = findings.length - SHOWN_MAX;
  return [
    ...findings.slice(0, SHOWN_MAX),
    ...(more > 0 ? [`… and ${more} more`] : []),
    `Logs of all processes, the history, the schedule and all findings are in ${dir}`,
    `To repeat it: ${commandOf(options)}`,
  ];
}

export function commandOf({ seed, seconds, kinds, bug, liveness }: Options): string {
  const only = kinds.length === FAULT_KINDS.length ? "" : ` --only ${kinds.join(",")}`;
  return `npm run test:faults -- --seed ${seed} --seconds ${seconds}${only}${bug === null ? "" : ` --bug ${bug}`}${liveness ? " --liveness" : ""}`;
}

async function removeData(dir: string): Promise<void> {
  const names = (await readdir(dir)).filter((name) => !KEPT.has(name));
  await Promise.all(names.map((name) => rm(join(dir, name), { recursive: true, force: true })));
}

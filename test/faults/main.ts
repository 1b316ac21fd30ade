/** The torture suite, `npm run test:faults`: one seed, one campaign. Ends with 0 when every promise was kept. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { listFaults, runCampaign } from "./campaign.ts";
import { measureLiveness } from "./liveness-mode.ts";
import { parseOptions, USAGE, type Options } from "./options.ts";
import { commandOf, writeReport } from "./report.ts";

/** Two losses, each with what was before it. */
const LIVENESS_PARTS = 4;
const ROOT = join(import.meta.dirname, "../..");

async function main(args: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(args, Date.now() % 1_000_000);
  } catch (cause) {
    console.error(`${(cause as Error).message}\n${USAGE}`);
    return 2;
  }
  const { seed, seconds, kinds, bug } = options;
  const say = (text: string) => console.log(text);
  say(commandOf(options));
  if (options.list) {
    for (const line of listFaults(options)) say(line);
    return 0;
  }
  const dir = join(ROOT, ".cache/faults", `seed-${seed}`);
  if (options.liveness) {
    const problems = await measureLiveness({ seed, seconds: Math.ceil(seconds / LIVENESS_PARTS), dir, say });
    for (const problem of problems) console.error(problem);
    await rm(dir, { recursive: true, force: true });
    return problems.length === 0 ? 0 : 1;
  }
  const env: Record<string, string> = bug === null ? {} : { KINTSUGI_TEST_BUG: bug };
  const result = await runCampaign({ seed, seconds, kinds, dir, env, untilMended: bug === null, say });
  const isClean = result.problems.length === 0 && result.violations.length === 0;
  if (isClean) await rm(dir, { recursive: true, force: true });
  else for (const line of await writeReport(dir, result, options)) console.error(line);
  say(isClean ? "every promise was kept" : "promises were broken");
  return isClean === (bug === null) ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));

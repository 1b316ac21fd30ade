/** The torture suite, `npm run test:faults`: one seed, one campaign. Ends with 0 when every promise was kept. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { runCampaign } from "./campaign.ts";
import { parseOptions, USAGE, type Options } from "./options.ts";
import { commandOf, writeReport } from "./report.ts";

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
  const dir = join(ROOT, ".cache/faults", `seed-${seed}`);
  const env: Record<string, string> = bug === null ? {} : { KINTSUGI_TEST_BUG: bug };
  const say = (text: string) => console.log(text);
  say(commandOf(options));
  const result = await runCampaign({ seed, seconds, kinds, dir, env, say });
  const isClean = result.problems.length === 0 && result.violations.length === 0;
  if (isClean) await rm(dir, { recursive: true, force: true });
  else for (const line of await writeReport(dir, result, options)) console.error(line);
  say(isClean ? "every promise was kept" : "promises were broken");
  return isClean === (bug === null) ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));

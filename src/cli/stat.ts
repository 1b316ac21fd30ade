import { withClient, type ClientOptions } from "./command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";

/** `kintsugi stat KEY`: everything the store knows of an object, the nodes that hold it included. */
export async function runStat(io: CliIo, key: string, options: ClientOptions): Promise<ExitCode> {
  const info = await withClient(io, options, (client) => client.describe(key, options.bucket));
  const lines = options.json ? [JSON.stringify(info)] : outline(info);
  for (const line of lines) await writeLine(io.stdout, line);
  return EXIT.ok;
}

/** Any JSON as indented `name: value` lines; what is short stays on one line. */
export function outline(value: unknown, indent = ""): string[] {
  const short = oneLine(value);
  if (short !== null) return [`${indent}${short}`];
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      const record = isFlat(item)
        ? Object.entries(item as object).map(([name, part]) => `${displayText(name)} ${plain(part)}`)
        : null;
      return record === null ? outline(item, `${indent}  `) : [`${indent}${record.join(", ")}`];
    });
  }
  return Object.entries(value as object).flatMap(([name, item]) => {
    const shown = `${indent}${displayText(name)}:`;
    const shortItem = oneLine(item);
    return shortItem === null ? [shown, ...outline(item, `${indent}  `)] : [`${shown} ${shortItem}`.trimEnd()];
  });
}

/** Plain values and lists of them; null for anything that needs lines of its own. */
function oneLine(value: unknown): string | null {
  if (isPlain(value)) return plain(value);
  if (Array.isArray(value)) return value.every(isPlain) ? value.map(plain).join(", ") : null;
  return Object.keys(value as object).length === 0 ? "-" : null;
}

function isFlat(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isPlain);
}

function isPlain(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}

function plain(value: unknown): string {
  return value === null ? "-" : displayText(typeof value === "string" ? value : JSON.stringify(value));
}

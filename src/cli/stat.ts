import { withClient, type ClientOptions } from "./command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { objectTarget } from "./targets.ts";

/** `kintsugi stat KEY`: everything the store knows of an object, the nodes that hold it included. */
export async function runStat(io: CliIo, key: string, options: ClientOptions): Promise<ExitCode> {
  const target = objectTarget(key, { info: true, bucket: options.bucket });
  const info = await withClient(io, options, (client) => client.requestJson({ method: "GET", target }));
  const lines = options.json ? [JSON.stringify(info)] : outline(info);
  for (const line of lines) await writeLine(io.stdout, line);
  return EXIT.ok;
}

/** Any JSON as indented `name: value` lines; lists of plain values stay on one line. */
export function outline(value: unknown, indent = ""): string[] {
  if (typeof value !== "object" || value === null) return [`${indent}${plain(value)}`];
  if (Array.isArray(value) && value.every(isPlain)) return [`${indent}${value.map(plain).join(", ")}`];
  const entries = Array.isArray(value)
    ? value.map((item, index) => [`${index}`, item] as const)
    : Object.entries(value);
  return entries.flatMap(([name, item]) => {
    const shown = `${indent}${displayText(name)}:`;
    if (isPlain(item) || (Array.isArray(item) && item.every(isPlain)))
      return [`${shown} ${outline(item).join("")}`.trimEnd()];
    return [shown, ...outline(item, `${indent}  `)];
  });
}

function isPlain(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}

function plain(value: unknown): string {
  return value === null ? "-" : displayText(typeof value === "string" ? value : JSON.stringify(value));
}

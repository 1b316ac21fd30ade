import { formatBytes } from "../lib/bytes.ts";
import { LIMITS } from "../limits.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { displayText, formatTable, writeLine, type CliIo } from "./io.ts";
import type { ListAnswer } from "./store-client.ts";

export type ListOptions = ClientOptions & { readonly delimiter: string | null; readonly long: boolean };

/** `kintsugi ls [PREFIX]`: every page, each printed before the next is asked for. */
export async function runList(io: CliIo, prefix: string | null, options: ListOptions): Promise<ExitCode> {
  await withClient(io, options, async (client) => {
    let after: string | null = null;
    do {
      const { bucket, delimiter } = options;
      const page: ListAnswer = await client.list({ prefix, delimiter, after, limit: LIMITS.listPageMax, bucket });
      const lines = options.json ? jsonLines(page) : textLines(page, options.long);
      for (const line of lines) await writeLine(io.stdout, line);
      after = page.next ?? null;
    } while (after !== null);
  });
  return EXIT.ok;
}

function jsonLines(page: ListAnswer): string[] {
  const prefixes = page.commonPrefixes.map((prefix) => JSON.stringify({ prefix }));
  return [...prefixes, ...page.objects.map((entry) => JSON.stringify(entry))];
}

function textLines(page: ListAnswer, long: boolean): string[] {
  const rows = [
    ...page.commonPrefixes.map((prefix) => ({ name: prefix, cells: ["-", "-", "-"] })),
    ...page.objects.map((entry) => ({
      name: entry.key,
      cells: [formatBytes(entry.sizeBytes), entry.strategy, entry.modifiedAt],
    })),
  ].toSorted((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  if (!long) return rows.map((row) => displayText(row.name));
  return formatTable(rows.map((row) => [...row.cells, displayText(row.name)]));
}

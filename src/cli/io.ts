import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import type { Clock } from "../lib/clock.ts";

/** What a command may touch besides the files it is told to. Tests bring their own. */
export type CliIo = {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stderrIsTerminal: boolean;
  readonly clock: Clock;
  /** Aborts when the user wants the command to end. */
  readonly signal: AbortSignal;
};

/** The reader of stdout went away, as `head` does. Nobody is left to tell, so the command just ends. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Writes and waits until there is room for more, so that a slow reader never makes this process grow. */
export async function writeOut(output: Writable, bytes: Uint8Array | string): Promise<void> {
  if (output.destroyed || output.errored !== null) throw new OutputClosed();
  if (output.write(bytes)) return;
  const closed = new AbortController();
  try {
    await Promise.race([
      once(output, "drain", { signal: closed.signal }),
      once(output, "close", { signal: closed.signal }).then(() => Promise.reject(new OutputClosed())),
    ]);
  } catch {
    throw new OutputClosed();
  } finally {
    closed.abort();
  }
}

export async function writeLine(output: Writable, line: string): Promise<void> {
  await writeOut(output, `${line}\n`);
}

/** Text from outside made harmless for a terminal: control and direction characters are shown, never obeyed. */
export function displayText(text: string): string {
  return text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.codePointAt(0) as number;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** Columns padded to line up; the last one is left as it is. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, cell.length)));
  return rows.map((row) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] as number))).join("  "),
  );
}

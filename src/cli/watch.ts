import type { WatchOptions } from "../client/watch.ts";
import { CHANGE_OPS, type ChangeOp } from "../domain/change-event.ts";
import { formatBytes } from "../lib/bytes.ts";
import type { ClientOptions } from "./command.ts";
import { EXIT, usageError, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { connectNats, explain } from "./nats-store.ts";

export type WatchCommandOptions = ClientOptions & {
  /** `new`, a sequence, or a date. */
  readonly from: string;
  readonly ops: readonly string[] | null;
};

/** `kintsugi watch [PREFIX]`: a line per change, until Ctrl-C. */
export async function runWatch(io: CliIo, prefix: string | null, options: WatchCommandOptions): Promise<ExitCode> {
  if (options.nats === null) throw usageError("Changes are told over NATS: name a server with --nats");
  const watched: WatchOptions = {
    ...(options.bucket === null ? {} : { bucket: options.bucket }),
    ...(options.ops === null ? {} : { ops: options.ops.map(parseOp) }),
    ...{ prefix: prefix ?? "", from: parseFrom(options.from), signal: io.signal },
  };
  const client = await connectNats(io, options.nats);
  try {
    for await (const event of client.watch(watched)) {
      const text = [
        ...[new Date(event.modifiedAtMs).toISOString(), event.op.padEnd(6), formatBytes(event.sizeBytes).padStart(9)],
        displayText(event.key),
      ].join("  ");
      await writeLine(io.stdout, options.json ? JSON.stringify(event) : text);
    }
    return EXIT.ok;
  } catch (cause) {
    // Ctrl-C is how a watch ends.
    if (io.signal.aborted) return EXIT.ok;
    throw explain(io, cause);
  } finally {
    await client.close();
  }
}

function parseOp(text: string): ChangeOp {
  if (CHANGE_OPS.includes(text as ChangeOp)) return text as ChangeOp;
  throw usageError(`${JSON.stringify(text)} is none of ${CHANGE_OPS.join(", ")}`);
}

function parseFrom(text: string): NonNullable<WatchOptions["from"]> {
  if (text === "new") return text;
  if (/^\d{1,15}$/.test(text)) return { sequence: Number(text) };
  const timeMs = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(timeMs)) {
    throw usageError(`--from ${JSON.stringify(text)} is not new, a sequence, or a date such as 2026-01-31T12:00:00Z`);
  }
  return { timeMs };
}

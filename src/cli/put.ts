import { once } from "node:events";
import { createReadStream, existsSync, statSync, type Stats } from "node:fs";
import { basename, extname } from "node:path";
import { formatBytes } from "../lib/bytes.ts";
import { CliError, EXIT, usageError, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { guessContentType } from "./content-type.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { startProgress } from "./progress.ts";
import type { RestClient } from "./rest-client.ts";
import { objectTarget, quoteTag } from "./targets.ts";
import { createTally } from "./transfer.ts";

export type PutOptions = ClientOptions & {
  readonly key: string | null;
  readonly strategy: string | null;
  readonly consistency: string | null;
  readonly contentType: string | null;
  /** `name=value` each. */
  readonly meta: readonly string[];
  readonly ifMatch: string | null;
  /** An entity tag, or `*`: only where the key has no object. */
  readonly ifNoneMatch: string | null;
};

/** What is stored where. `file` is a path, or `-` for stdin. */
export type Upload = { readonly file: string; readonly key: string };

const READ_BYTES = 256 * 1024;

/** `kintsugi put FILE… [KEY]` */
export async function runPut(io: CliIo, operands: readonly string[], options: PutOptions): Promise<ExitCode> {
  const uploads = planUploads(operands, options.key, existsSync);
  const headers = headersOf(options);
  await withClient(io, options, async (client) => {
    for (const upload of uploads) {
      const receipt = await putOne(io, client, upload, headers, options);
      await writeLine(io.stdout, options.json ? JSON.stringify({ file: upload.file, ...receipt }) : summaryOf(receipt));
    }
  });
  return EXIT.ok;
}

/**
 * Decides which operand is the key. One that could be either a key or a file to store is refused: guessing would store
 * one file under the name of another.
 */
export function planUploads(
  operands: readonly string[],
  key: string | null,
  exists: (path: string) => boolean,
): Upload[] {
  const last = operands.at(-1) as string;
  let files = operands;
  let destination = key;
  if (destination === null && operands.length > 1) {
    const isKey = last.endsWith("/") || (operands.length === 2 && (last === operands[0] || !exists(last)));
    if (isKey) {
      files = operands.slice(0, -1);
      destination = last;
    } else if (operands.length === 2) {
      const shown = JSON.stringify(last);
      throw usageError(
        `${shown} is a file: to use it as the key write --key ${shown}, to store both files give a KEY ending in /`,
      );
    } else if (!exists(last)) {
      throw usageError(`Several files need a KEY ending in /, and ${JSON.stringify(last)} does not`);
    }
  }
  if (files.length > 1 && destination !== null && !destination.endsWith("/")) {
    throw usageError(`${files.length} files cannot share the key ${JSON.stringify(destination)}: end it with /`);
  }
  return files.map((file) => ({ file, key: keyOf(file, destination) }));
}

type ReceiptAnswer = {
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly sha256: string | null;
  readonly strategy: string;
  readonly tolerance: number;
  readonly dirty: boolean;
};

async function putOne(
  io: CliIo,
  client: RestClient,
  upload: Upload,
  headers: Readonly<Record<string, string>>,
  options: PutOptions,
): Promise<ReceiptAnswer> {
  const source = await openSource(io, upload.file);
  const progress = startProgress(io, basename(upload.key) || upload.key, source.sizeBytes);
  const tally = createTally(progress);
  try {
    const { bucket, strategy, consistency } = options;
    const contentType = options.contentType ?? guessContentType(extname(upload.key) === "" ? upload.file : upload.key);
    const receipt = (await client.requestJson({
      method: "PUT",
      target: objectTarget(upload.key, { bucket, strategy, consistency }),
      headers: { ...headers, "content-type": contentType },
      body: { chunks: tally.follow(source.chunks), sizeBytes: source.sizeBytes },
    })) as ReceiptAnswer;
    const sent = tally.sha256();
    if ((receipt.sha256 !== null && receipt.sha256 !== sent) || receipt.sizeBytes !== tally.sizeBytes) {
      const message =
        `${JSON.stringify(upload.key)} was stored as ${receipt.sizeBytes} bytes with SHA-256 ${receipt.sha256}, ` +
        `but ${tally.sizeBytes} bytes with ${sent} were sent`;
      throw new CliError(EXIT.damaged, "verification_failed", message);
    }
    return receipt;
  } finally {
    progress.stop();
    source.close();
  }
}

type Source = { readonly chunks: AsyncIterable<Uint8Array>; readonly sizeBytes: number | null; close(): void };

async function openSource(io: CliIo, file: string): Promise<Source> {
  if (file === "-") return { chunks: io.stdin as AsyncIterable<Uint8Array>, sizeBytes: null, close: () => {} };
  const stats = statFile(file);
  if (stats.isDirectory()) {
    const shown = JSON.stringify(file);
    throw usageError(
      `${shown} is a directory: give its files, for example \`kintsugi put ${basename(file)}/* ${basename(file)}/\``,
    );
  }
  const sizeBytes = stats.isFile() ? stats.size : null;
  const stream = createReadStream(file, { highWaterMark: READ_BYTES });
  await once(stream, "open");
  return {
    chunks: sizeBytes === null ? stream : exactly(stream, sizeBytes, file),
    sizeBytes,
    close: () => stream.destroy(),
  };
}

/** The length is promised before the first byte is sent, so a file that changes meanwhile must not go unnoticed. */
async function* exactly(
  chunks: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  file: string,
): AsyncGenerator<Uint8Array> {
  let readBytes = 0;
  for await (const chunk of chunks) {
    readBytes += chunk.length;
    if (readBytes > sizeBytes) break;
    yield chunk;
  }
  if (readBytes === sizeBytes) return;
  const change = readBytes > sizeBytes ? "grew" : "shrank";
  throw new CliError(
    EXIT.failure,
    "file_changed",
    `${JSON.stringify(file)} ${change} while it was read: nothing was stored`,
  );
}

function statFile(file: string): Stats {
  try {
    return statSync(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "unreadable";
    throw new CliError(EXIT.failure, "file_unreadable", `Cannot read ${JSON.stringify(file)}: ${code}`);
  }
}

function keyOf(file: string, destination: string | null): string {
  if (destination !== null && !destination.endsWith("/")) return destination;
  if (file === "-") throw usageError("Standard input has no name: give a KEY");
  return `${destination ?? ""}${basename(file)}`;
}

function headersOf(options: PutOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const pair of options.meta) {
    const at = pair.indexOf("=");
    const name = pair.slice(0, at).toLowerCase();
    if (at < 1 || !/^[a-z0-9_.-]+$/.test(name)) {
      throw usageError(
        `--meta ${JSON.stringify(pair)} is not name=value with a name of letters, digits, dots, hyphens and underscores`,
      );
    }
    headers[`x-kintsugi-meta-${name}`] = headerValue(`--meta ${name}`, pair.slice(at + 1));
  }
  if (options.ifMatch !== null) headers["if-match"] = quoteTag(options.ifMatch);
  if (options.ifNoneMatch !== null) headers["if-none-match"] = quoteTag(options.ifNoneMatch);
  return headers;
}

/** Metadata is UTF-8 on the wire, and a header takes one byte per character. */
function headerValue(name: string, value: string): string {
  if (/\p{Cc}/u.test(value) || !value.isWellFormed()) throw usageError(`${name} may not hold control characters`);
  return Buffer.from(value, "utf8").toString("latin1");
}

function summaryOf(receipt: ReceiptAnswer): string {
  const lost = `${receipt.tolerance} ${receipt.tolerance === 1 ? "node" : "nodes"}`;
  const state = receipt.dirty ? ", still being completed" : "";
  return `${displayText(receipt.key)}  ${formatBytes(receipt.sizeBytes)}  ${receipt.strategy}  survives the loss of ${lost}${state}`;
}

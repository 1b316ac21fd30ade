import { once } from "node:events";
import { createReadStream, existsSync, statSync, type ReadStream, type Stats } from "node:fs";
import { basename, extname } from "node:path";
import { formatBytes } from "../lib/bytes.ts";
import { CliError, EXIT, usageError, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { guessContentType } from "./content-type.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { startProgress } from "./progress.ts";
import type { ReceiptAnswer, StoreClient, UploadBody } from "./store-client.ts";
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
  const userMetadata = metadataOf(options.meta);
  await withClient(io, options, async (client) => {
    for (const upload of uploads) {
      const receipt = await putOne(io, client, upload, userMetadata, options);
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

async function putOne(
  io: CliIo,
  client: StoreClient,
  upload: Upload,
  userMetadata: Readonly<Record<string, string>>,
  options: PutOptions,
): Promise<ReceiptAnswer> {
  const source = await openSource(io, upload.file);
  const progress = startProgress(io, basename(upload.key) || upload.key, source.sizeBytes);
  const tally = createTally(progress);
  try {
    const { bucket, strategy, consistency, ifMatch, ifNoneMatch } = options;
    const contentType = options.contentType ?? guessContentType(extname(upload.key) === "" ? upload.file : upload.key);
    const { sizeBytes, repeatable } = source;
    const receipt = await client.put(
      upload.key,
      { sizeBytes, repeatable, open: () => tally.follow(source.open()) },
      { bucket, strategy, consistency, contentType, userMetadata, ifMatch, ifNoneMatch },
    );
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

type Source = UploadBody & { close(): void };

async function openSource(io: CliIo, file: string): Promise<Source> {
  if (file === "-") {
    const open = () => io.stdin as AsyncIterable<Uint8Array>;
    return { sizeBytes: null, repeatable: false, open, close: () => {} };
  }
  const stats = statFile(file);
  if (stats.isDirectory()) {
    const shown = JSON.stringify(file);
    throw usageError(
      `${shown} is a directory: give its files, for example \`kintsugi put ${basename(file)}/* ${basename(file)}/\``,
    );
  }
  const sizeBytes = stats.isFile() ? stats.size : null;
  const read = () => createReadStream(file, { highWaterMark: READ_BYTES });
  // A file that cannot be read is found out before the store is asked for anything.
  let unread: ReadStream | null = read();
  let stream = unread;
  await once(stream, "open");
  return {
    sizeBytes,
    repeatable: sizeBytes !== null,
    open() {
      stream = unread ?? read();
      unread = null;
      return sizeBytes === null ? stream : exactly(stream, sizeBytes, file);
    },
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

function metadataOf(pairs: readonly string[]): Record<string, string> {
  const metadata: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const name = pair.slice(0, at).toLowerCase();
    if (at < 1 || !/^[a-z0-9_.-]+$/.test(name)) {
      throw usageError(
        `--meta ${JSON.stringify(pair)} is not name=value with a name of letters, digits, dots, hyphens and underscores`,
      );
    }
    const value = pair.slice(at + 1);
    if (/\p{Cc}/u.test(value) || !value.isWellFormed()) {
      throw usageError(`--meta ${name} may not hold control characters`);
    }
    metadata[name] = value;
  }
  return metadata;
}

function summaryOf(receipt: ReceiptAnswer): string {
  const lost = `${receipt.tolerance} ${receipt.tolerance === 1 ? "node" : "nodes"}`;
  const state = receipt.dirty ? ", still being completed" : "";
  return `${displayText(receipt.key)}  ${formatBytes(receipt.sizeBytes)}  ${receipt.strategy}  survives the loss of ${lost}${state}`;
}

import { readFile } from "node:fs/promises";
import { formatBytes } from "../lib/bytes.ts";
import { LIMITS } from "../limits.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { CliError, EXIT, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";
import { collect } from "./rest-client.ts";

export type PatchOptions = ClientOptions & { readonly consistency: string | null; readonly ifMatch: string | null };

/** `kintsugi patch KEY JSON|FILE|-`: a merge patch (RFC 7396), given in place, by file or on stdin. */
export async function runPatch(io: CliIo, key: string, patch: string, options: PatchOptions): Promise<ExitCode> {
  const bytes = await readPatch(io, patch);
  const { bucket, consistency, ifMatch } = options;
  const receipt = await withClient(io, options, (client) => client.patch(key, bytes, { bucket, consistency, ifMatch }));
  const written =
    receipt.nodeBytesWritten === 0 ? "no node was touched" : `${formatBytes(receipt.nodeBytesWritten)} sent to nodes`;
  const text = `${displayText(key)}  patched, now ${formatBytes(receipt.sizeBytes)}, ${written}`;
  await writeLine(io.stdout, options.json ? JSON.stringify(receipt) : text);
  return EXIT.ok;
}

async function readPatch(io: CliIo, patch: string): Promise<Uint8Array> {
  // One byte more than allowed is enough for the store to say no.
  if (patch === "-") return await collect(io.stdin as AsyncIterable<Uint8Array>, LIMITS.patchBytesMax + 1);
  if (/^\s*\{/.test(patch)) return Buffer.from(patch);
  try {
    return await readFile(patch);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "unreadable";
    const message = `Cannot read the patch ${JSON.stringify(patch)}: ${code}; give JSON such as {"status":"ok"}, a file, or -`;
    throw new CliError(EXIT.failure, "file_unreadable", message);
  }
}

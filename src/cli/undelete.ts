import { formatBytes } from "../lib/bytes.ts";
import { withClient, type ClientOptions } from "./command.ts";
import { CliError, EXIT, describeFailure, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";

/** `kintsugi undelete KEY…`: one that cannot be brought back does not keep the others. The first failure gives the exit code. */
export async function runUndelete(io: CliIo, keys: readonly string[], options: ClientOptions): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  await withClient(io, options, async (client) => {
    for (const key of keys) {
      try {
        const receipt = await client.undelete(key, options.bucket);
        const text = `${displayText(key)}  is back, ${formatBytes(receipt.sizeBytes)}`;
        await writeLine(io.stdout, options.json ? JSON.stringify(receipt) : text);
      } catch (cause) {
        if (!(cause instanceof CliError) || cause.exitCode === EXIT.unavailable) throw cause;
        await writeLine(io.stderr, describeFailure(cause).line);
        if (exitCode === EXIT.ok) exitCode = cause.exitCode;
      }
    }
  });
  return exitCode;
}

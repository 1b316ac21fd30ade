import { withClient, type ClientOptions } from "./command.ts";
import { CliError, EXIT, describeFailure, type ExitCode } from "./exit.ts";
import { displayText, writeLine, type CliIo } from "./io.ts";

/** `kintsugi rm KEY…`: one that is missing does not keep the others. The first failure gives the exit code. */
export async function runRemove(
  io: CliIo,
  keys: readonly string[],
  options: ClientOptions & { readonly force: boolean },
): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  await withClient(io, options, async (client) => {
    for (const key of keys) {
      try {
        await client.remove(key, options.bucket);
        await writeLine(
          io.stdout,
          options.json ? JSON.stringify({ key, deleted: true }) : `${displayText(key)}  deleted`,
        );
      } catch (cause) {
        if (!(cause instanceof CliError) || cause.exitCode === EXIT.unavailable) throw cause;
        const missing = cause.exitCode === EXIT.notFound;
        if (options.json) await writeLine(io.stdout, JSON.stringify({ key, deleted: false, code: cause.code }));
        if (missing && options.force) continue;
        await writeLine(io.stderr, describeFailure(cause).line);
        if (exitCode === EXIT.ok) exitCode = cause.exitCode;
      }
    }
  });
  return exitCode;
}

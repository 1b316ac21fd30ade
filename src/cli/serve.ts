import { portOf, type Config } from "../config.ts";
import { isStoreError } from "../domain/errors.ts";
import type { ProcessRole } from "../domain/node-info.ts";
import { configOf, type ConfigOptions } from "./config-commands.ts";
import { CliError, EXIT } from "./exit.ts";
import { writeLine, type CliIo } from "./io.ts";

/** What a process does: `all` is a whole store, the others are parts of a cluster. */
export type Role = "all" | ProcessRole;

/** A process of the store that is ready. */
export type RunningStore = {
  /** Unique in its role; null for a whole store. */
  readonly name: string | null;
  /** Where it listens, such as `http://127.0.0.1:8000`. */
  readonly address: string;
  /** Resolves with the exit code when the store has ended, by `close` or by a fault. */
  readonly closed: Promise<number>;
  /** Lets requests under way finish, then ends. */
  close(): Promise<void>;
};

/** Builds and starts a role; given by `main.ts`, because commands know nothing of what a store is made of. */
export type RunStore = (role: Role, config: Config) => Promise<RunningStore>;

/** `kintsugi serve`, `gateway`, `node`, `healer`: runs until a signal or a fault ends it. Resolves with the exit code. */
export async function runServe(io: CliIo, role: Role, options: ConfigOptions, runStore: RunStore): Promise<number> {
  const config = configOf(options);
  const store = await runStore(role, config).catch((cause: unknown) => {
    throw explainStart(cause, role, config);
  });
  // In one piece: who waits for the address by reading this output gets the whole of it.
  await writeLine(
    io.stdout,
    (role === "all" ? greetingOf(config, store.address) : roleGreetingOf(role, config, store)).join("\n"),
  );
  const stop = () => {
    io.stderr.write("Stopping: requests under way are finished first; press Ctrl-C again to stop at once\n");
    void store.close();
  };
  if (io.signal.aborted) stop();
  else io.signal.addEventListener("abort", stop, { once: true });
  return await store.closed;
}

/** What a person wants to know when the store is up: where it is, and three lines to paste. */
export function greetingOf(config: Pick<Config, "dataDir" | "host">, address: string): string[] {
  const url = address.startsWith("http") ? address : `http://${address}`;
  const reachable = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
  const object = `${reachable}/objects/fleet/d-1`;
  const open = isLoopback(config.host)
    ? []
    : ["There is no authentication yet: whoever reaches this address can read and write."];
  return [
    `Kintsugi is ready at ${url}, data in ${config.dataDir}`,
    ...open,
    `  curl -X PUT ${object} -H 'content-type: application/json' -d '{"device_id":"d-1","battery_level":97}'`,
    `  curl -X PATCH ${object} -H 'content-type: application/merge-patch+json' -d '{"battery_level":96}'`,
    `  curl '${object}?fields=battery_level'`,
  ];
}

/** One line for supervisors and people alike. */
function roleGreetingOf(role: ProcessRole, config: Config, { name, address }: RunningStore): string[] {
  return [`Kintsugi ${role} ${name} is ready at ${address}, data in ${config.dataDir}`];
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function explainStart(cause: unknown, role: Role, config: Config): unknown {
  // A supervisor must not start such a store again and again: only a person can restore the file.
  if (isStoreError(cause, "storage_error") && cause.details["reason"] === "damaged") {
    return new CliError(EXIT.damaged, cause.code, cause.message);
  }
  const code = cause instanceof Error && "code" in cause ? cause.code : null;
  const place = `${config.host}:${portOf(config, role)}`;
  if (code === "EADDRINUSE") {
    return new CliError(
      EXIT.failure,
      "port_taken",
      `Cannot listen on ${place}: it is in use; choose another with --port`,
    );
  }
  if (code === "EACCES" || code === "EADDRNOTAVAIL") {
    return new CliError(
      EXIT.failure,
      "listen_failed",
      `Cannot start on ${place} with data in ${config.dataDir}: ${String(code)}`,
    );
  }
  return cause;
}

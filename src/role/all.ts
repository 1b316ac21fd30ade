import { readFileSync } from "node:fs";
import { openEmbeddedStore } from "../compose.ts";
import type { Config } from "../config.ts";
import type { AssertionError } from "../lib/assert.ts";
import { startRestServer } from "../gateway/rest/server.ts";
import { systemClock } from "../lib/clock.ts";
import { systemRandom } from "../lib/random.ts";
import { killingFaultPoints } from "./kill-point.ts";
import { createPinoLogger } from "./pino-logger.ts";

export type RunningStore = {
  /** Where it listens, such as `http://127.0.0.1:8000`. */
  readonly address: string;
  /** Resolves with the exit code when the store has ended, by `close` or by a fault. */
  readonly closed: Promise<number>;
  /** Lets requests under way finish, then ends. */
  close(): Promise<void>;
};

const EXIT_CLEAN = 0;
/** A broken invariant: a bug. */
const EXIT_BUG = 70;
/** The metadata store met a storage error and fenced itself. */
const EXIT_FENCED = 74;

/** Runs all roles in this process: gateway, nodes and recovery, on embedded metadata. */
export async function runAll(config: Config): Promise<RunningStore> {
  const { clock, random } = { clock: systemClock, random: systemRandom };
  const logger = createPinoLogger({ level: config.logLevel, format: config.logFormat });
  const faults = killingFaultPoints(config.testKillAt);
  const store = await openEmbeddedStore(config, { clock, random, logger, faults });
  logger.info({ dataDir: config.dataDir, ...store.recovered }, "the store is open");

  let end: (exitCode: number) => void = () => {};
  const closed = new Promise<number>((resolve) => (end = resolve));
  let closing: Promise<void> | null = null;
  const close = (exitCode: number) => {
    closing ??= server
      .close()
      .then(() => store.close())
      .then(
        () => end(exitCode),
        (cause: unknown) => {
          logger.error({ cause: String(cause) }, "the store did not close cleanly");
          end(exitCode === EXIT_CLEAN ? EXIT_BUG : exitCode);
        },
      );
    return closing;
  };
  const onBug = (cause: AssertionError) => {
    logger.error({ cause: cause.stack ?? cause.message }, "a broken invariant: draining and stopping");
    void close(EXIT_BUG);
  };

  const { host, port, drainMs, http } = { ...config, drainMs: config.timeouts.drainMs };
  const parts = { clock, random, logger, api: store.api, cluster: store.cluster, registry: store.registry };
  const server = await startRestServer(
    { ...parts, version: versionOf(), onBug },
    { host, port, drainMs, ...http },
  ).catch(async (cause: unknown) => {
    await store.close();
    throw cause;
  });
  void store.failed.then((cause) => {
    logger.error({ code: cause.code, cause: String(cause.cause) }, "the metadata store is fenced: leaving at once");
    // Nothing can be served without it, and LMDB's own memory is not to be trusted after a failed write.
    end(EXIT_FENCED);
  });
  const shownHost = host.includes(":") ? `[${host}]` : host;
  return { address: `http://${shownHost}:${server.port}`, closed, close: () => close(EXIT_CLEAN) };
}

function versionOf(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}

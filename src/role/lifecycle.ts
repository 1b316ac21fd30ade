import type { StoreError } from "../domain/errors.ts";
import type { AssertionError } from "../lib/assert.ts";
import type { Logger } from "../lib/logger.ts";

/** A process that does its work until it is closed or something makes going on impossible. */
export type RunningProcess = {
  /** Unique in its role; null for a store that is alone. */
  readonly name: string | null;
  /** Where it listens, such as `http://127.0.0.1:8000`. */
  readonly address: string;
  /** Resolves with the exit code when the process has ended its work, by `close` or by a fault. */
  readonly closed: Promise<number>;
  /** Lets requests under way finish, then ends. */
  close(): Promise<void>;
};

const EXIT_CLEAN = 0;
/** A broken invariant: a bug. */
const EXIT_BUG = 70;
/** A storage error was met: the disk is to be looked after. */
const EXIT_FENCED = 74;
/** The process does not fit into its cluster: another one has its name, it was removed, or the metadata is not that of its data. */
const EXIT_MISPLACED = 78;

const MISPLACED: ReadonlySet<StoreError["code"]> = new Set(["name_taken", "node_removed", "metadata_lost"]);

export type Lifecycle = {
  readonly closed: Promise<number>;
  close(): Promise<void>;
  /** For broken invariants: drains and ends. */
  readonly onBug: (cause: AssertionError) => void;
  /** Ends as the failure demands. */
  readonly onFailed: (cause: StoreError) => void;
};

/** `stop` closes the doors, then everything behind them; it is called at most once. */
export function createLifecycle(logger: Logger, stop: () => Promise<void>): Lifecycle {
  const { promise: closed, resolve: end } = Promise.withResolvers<number>();
  let closing: Promise<void> | null = null;
  const close = (exitCode: number) => {
    closing ??= stop().then(
      () => end(exitCode),
      (cause: unknown) => {
        logger.error({ cause: String(cause) }, "the process did not close cleanly");
        end(exitCode === EXIT_CLEAN ? EXIT_BUG : exitCode);
      },
    );
    return closing;
  };
  return {
    closed,
    close: () => close(EXIT_CLEAN),
    onBug(cause) {
      logger.error({ cause: cause.stack ?? cause.message }, "a broken invariant: draining and stopping");
      void close(EXIT_BUG);
    },
    onFailed(cause) {
      if (MISPLACED.has(cause.code)) {
        logger.error({ code: cause.code }, cause.message);
        void close(EXIT_MISPLACED);
        return;
      }
      logger.error({ code: cause.code, cause: String(cause.cause ?? cause) }, "storage is fenced: leaving at once");
      // Nothing can be done without it, and LMDB's own memory is not to be trusted after a failed write.
      end(EXIT_FENCED);
    },
  };
}

/** `http://host:port` as a person on this machine would type it. */
export function listeningAddress(host: string, port: number): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Creates streams and KV buckets, by whichever process of the cluster comes first. */
import type { StreamConfig } from "@nats-io/jetstream";
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import { StoreError } from "../domain/errors.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import type { NatsLink } from "./nats-link.ts";

const WAIT_MS = 30_000;
const REQUEST_MS = 5_000;
const RETRY_MS = 250;

const NAME_IN_USE = 10_058;
const SUBJECTS_OVERLAP = 10_065;

export type EnsureStreamOptions = {
  /** What becomes of a stream that exists with other settings: `keep` leaves them to whoever chose them. */
  readonly whenDifferent: "keep" | "update";
  /** How long the servers may take to agree: after a cluster starts it elects leaders before it can place a stream. */
  readonly waitMs?: number;
};

/** Makes sure that the stream exists. @throws {StoreError} `nats_unavailable` (retriable), `cluster_mismatch` */
export async function ensureStream(
  link: NatsLink,
  config: Partial<StreamConfig> & Pick<StreamConfig, "name">,
  options: EnsureStreamOptions,
): Promise<void> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS });
  const add = async () => {
    try {
      await manager.streams.add(config);
    } catch (cause) {
      if (!isApiError(cause, NAME_IN_USE)) throw cause;
      if (options.whenDifferent === "update") await manager.streams.update(config.name, config);
    }
  };
  await untilServersAgree(link, config.name, add, options.waitMs);
}

/**
 * Repeats `action`, which creates what `name` says, until it succeeds.
 * @throws {StoreError} `nats_unavailable` (retriable) after `waitMs`; `cluster_mismatch` when the subjects are another stream's
 */
export async function untilServersAgree<T>(
  link: NatsLink,
  name: string,
  action: () => Promise<T>,
  waitMs = WAIT_MS,
): Promise<T> {
  const deadline = deadlineIn(link.clock, waitMs);
  for (;;) {
    try {
      return await action();
    } catch (cause) {
      if (isApiError(cause, SUBJECTS_OVERLAP)) {
        throw new StoreError("cluster_mismatch", `Cannot create ${name}: another stream has its subjects`, { cause });
      }
      if (remainingMs(link.clock, deadline) === 0 || link.connection.isClosed()) {
        throw new StoreError("nats_unavailable", `Cannot create ${name}: ${reasonOf(cause)}`, {
          retriable: true,
          cause,
        });
      }
    }
    await link.clock.sleep(RETRY_MS);
  }
}

function isApiError(cause: unknown, code: number): boolean {
  return cause instanceof JetStreamApiError && cause.code === code;
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

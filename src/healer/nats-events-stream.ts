/**
 * The stream that subscribers of change events read. Its subjects, and those of the NATS door, are promised to clients and
 * name no cluster, so an account of NATS holds one cluster: the one whose stream has these subjects, which the servers
 * give to one stream only.
 */
import type { StreamConfig } from "@nats-io/jetstream";
import { DiscardPolicy, jetstreamManager, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { isStoreError, StoreError } from "../domain/errors.ts";
import { ensureStream } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { clusterOfEventsStream, EVENT_SUBJECTS } from "../nats/nats-names.ts";

/** How long and how much of them subscribers find. */
export type EventLimits = { readonly maxAgeMs: number; readonly bytesMax: number };

/** How long the servers remember which events they have: a leader that takes over within it repeats nothing. */
const REMEMBERED_MS = 120_000;
const REQUEST_MS = 2_000;

/** What the stream should be. */
export function eventsStreamConfig(
  link: NatsLink,
  { maxAgeMs, bytesMax }: EventLimits,
): Partial<StreamConfig> & Pick<StreamConfig, "name"> {
  return {
    name: link.names.eventsStream,
    subjects: [EVENT_SUBJECTS],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.Old,
    num_replicas: link.streamReplicas,
    max_age: nanos(maxAgeMs),
    max_bytes: bytesMax,
    duplicate_window: nanos(Math.min(REMEMBERED_MS, maxAgeMs)),
    allow_atomic: true,
  };
}

/**
 * Takes the account for this cluster, or makes sure that it has it. A stream that is there keeps its limits, which are
 * the leading healer's to change.
 * @throws {StoreError} `cluster_mismatch` where another cluster has the account, `nats_unavailable` (retriable)
 */
export async function claimAccount(link: NatsLink, limits: EventLimits): Promise<void> {
  try {
    await ensureStream(link, eventsStreamConfig(link, limits), { whenDifferent: "keep" });
  } catch (cause) {
    throw isStoreError(cause, "cluster_mismatch") ? accountTaken(link, await findHolder(link), cause) : cause;
  }
}

/** The stream that has the subjects; null where that cannot be told right now. */
async function findHolder(link: NatsLink): Promise<string | null> {
  try {
    const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS });
    for await (const name of manager.streams.names(EVENT_SUBJECTS)) return name;
  } catch {
    // The refusal is told without it.
  }
  return null;
}

function accountTaken(link: NatsLink, holder: string | null, cause: unknown): StoreError {
  const { clusterName } = link.names;
  const other = holder === null ? null : clusterOfEventsStream(holder);
  const stream = holder === null ? "another stream" : `stream ${holder}`;
  const state =
    other === null
      ? `${stream} has subjects of change events (${EVENT_SUBJECTS}) in this NATS account`
      : `this NATS account holds cluster ${other} already (${stream}), and an account holds one`;
  const joinIt = other === null ? "" : `, or set cluster.name to ${other} to join that one`;
  return new StoreError(
    "cluster_mismatch",
    `Cannot join cluster ${clusterName}: ${state}. Give this cluster an account of its own, see docs/deployment.md${joinIt}`,
    { cause, details: { stream: holder } },
  );
}

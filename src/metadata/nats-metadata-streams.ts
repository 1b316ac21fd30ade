/**
 * The streams that hold the records of a cluster. Which stream a key belongs to is fixed for the life of the cluster, so
 * their number is, too.
 */
import { crc32 } from "node:zlib";
import type { JetStreamManager, StreamConfig } from "@nats-io/jetstream";
import { DiscardPolicy, JetStreamApiError, RetentionPolicy, StorageType, jetstreamManager } from "@nats-io/jetstream";
import { StoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey, Revision } from "../domain/ids.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import { untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";

/** Servers that have just started need this long to elect who places streams. */
const ENSURE_MS_MAX = 60_000;
const ENSURE_RETRY_MS = 250;
const REQUEST_MS_MAX = 5_000;
/** Nothing here is told apart by message ids, so nothing is worth remembering; this is the least a server takes. */
const DUPLICATE_WINDOW_NANOS = 100_000_000;
const INCARNATION_FIELD = "kintsugi_incarnation";
const STREAM_NOT_FOUND = 10_059;
const STREAM_NAME_IN_USE = 10_058;

/** The stream of a key, 0…`streamCount` - 1. */
export function metadataStreamOf(bucket: BucketName, key: ObjectKey, streamCount: number): number {
  return crc32(`${bucket}\u0000${key}`) % streamCount;
}

/** The name of the metadata that a stream belongs to; null for one from before there were names. */
export function incarnationOf(config: StreamConfig): string | null {
  return config.metadata?.[INCARNATION_FIELD] ?? null;
}

/**
 * Makes the metadata streams under a name, or checks those that exist and gives it to them where they have none. Waits while
 * the servers have no leader yet.
 * @throws {StoreError} `cluster_mismatch` a stream is not as this process needs it; `nats_unavailable`
 */
export async function ensureMetadataStreams(link: NatsLink, streamCount: number, incarnation: string): Promise<void> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
  for (let index = 0; index < streamCount; index += 1) {
    await ensureStream(link, manager, streamConfigOf(link, index, incarnation));
  }
}

/**
 * Throws the metadata streams away where they are there, and makes empty ones whose revisions begin at `firstRevision`.
 * @throws {StoreError} `nats_unavailable`
 */
export async function recreateMetadataStreams(
  link: NatsLink,
  streamCount: number,
  { incarnation, firstRevision }: { readonly incarnation: string; readonly firstRevision: Revision },
): Promise<void> {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
  for (let index = 0; index < streamCount; index += 1) {
    await untilAnswered(link, deadlineIn(link.clock, ENSURE_MS_MAX), "remove a metadata stream", async () => {
      await manager.streams.delete(link.names.metadataStream(index)).catch((cause: unknown) => {
        if (!isApiError(cause, STREAM_NOT_FOUND)) throw cause;
      });
    });
    await ensureStream(link, manager, { ...streamConfigOf(link, index, incarnation), first_seq: firstRevision });
  }
}

async function ensureStream(link: NatsLink, manager: JetStreamManager, wanted: MetadataStreamConfig): Promise<void> {
  const deadline = deadlineIn(link.clock, ENSURE_MS_MAX);
  for (;;) {
    try {
      const { config } = await findOrAdd(manager, wanted);
      checkConfig(config, wanted);
      if (incarnationOf(config) !== null) return;
      await manager.streams.update(wanted.name, { ...config, metadata: { ...config.metadata, ...wanted.metadata } });
      return;
    } catch (cause) {
      if (cause instanceof StoreError) throw cause;
      if (remainingMs(link.clock, deadline) === 0) {
        throw new StoreError(
          "nats_unavailable",
          `Cannot make or find the stream ${wanted.name}: JetStream does not answer (${String(cause)})`,
          { retriable: true, cause },
        );
      }
      await link.clock.sleep(ENSURE_RETRY_MS);
    }
  }
}

async function findOrAdd(manager: JetStreamManager, wanted: MetadataStreamConfig) {
  try {
    return await manager.streams.info(wanted.name);
  } catch (cause) {
    if (!isApiError(cause, STREAM_NOT_FOUND)) throw cause;
  }
  try {
    return await manager.streams.add(wanted);
  } catch (cause) {
    // Another process was quicker; the next look finds what it made.
    if (!isApiError(cause, STREAM_NAME_IN_USE)) throw cause;
    return await manager.streams.info(wanted.name);
  }
}

type MetadataStreamConfig = Partial<StreamConfig> & { readonly name: string };

function streamConfigOf({ names, streamReplicas }: NatsLink, index: number, incarnation: string): MetadataStreamConfig {
  return {
    name: names.metadataStream(index),
    subjects: [names.metadataSubjects(index)],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    num_replicas: streamReplicas,
    max_msgs_per_subject: 1,
    discard: DiscardPolicy.New,
    allow_atomic: true,
    deny_delete: true,
    // Answers of a replica that lags behind would be stale.
    allow_direct: false,
    duplicate_window: DUPLICATE_WINDOW_NANOS,
    metadata: { [INCARNATION_FIELD]: incarnation },
  };
}

/** What correctness depends on. Limits of space and further copies are the operator's to choose. */
function checkConfig(config: StreamConfig, wanted: MetadataStreamConfig): void {
  for (const field of ["storage", "retention", "max_msgs_per_subject", "discard", "allow_atomic"] as const) {
    if (config[field] !== wanted[field]) refuse(wanted.name, field, config[field], wanted[field]);
  }
  if (config.num_replicas < (wanted.num_replicas ?? 1)) {
    refuse(wanted.name, "num_replicas", config.num_replicas, wanted.num_replicas);
  }
  if (config.max_age !== 0 || config.max_msgs !== -1) refuse(wanted.name, "max_age or max_msgs", "set", "no limit");
  if (config.subjects?.join() !== wanted.subjects?.join()) {
    refuse(wanted.name, "subjects", config.subjects?.join(), wanted.subjects?.join());
  }
  if ((config.persist_mode as string | undefined) === "async") refuse(wanted.name, "persist_mode", "async", "default");
}

function refuse(name: string, field: string, met: unknown, wanted: unknown): never {
  throw new StoreError(
    "cluster_mismatch",
    `Cannot use the stream ${name}: its ${field} is ${String(met)} and must be ${String(wanted)}`,
    { details: { stream: name, field } },
  );
}

function isApiError(cause: unknown, code: number): boolean {
  return cause instanceof JetStreamApiError && cause.code === code;
}

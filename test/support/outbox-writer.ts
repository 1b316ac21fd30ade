/** Commits as the metadata store makes them, as far as a publisher of change events sees: records and an outbox message, in one batch. */
import { StorageType, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import type { ChangeEvent, PendingEvent } from "../../src/domain/change-event.ts";
import { encodeOutbox } from "../../src/domain/change-event.ts";
import type { BucketName, ObjectKey } from "../../src/domain/ids.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { BUCKET } from "./sample-records.ts";

/** Three servers on a busy machine take their time to agree on a new stream. */
const PATIENT = { timeout: 30_000 };

export async function createMetadataStream(link: NatsLink, index: number): Promise<void> {
  const manager = await jetstreamManager(link.connection, PATIENT);
  await manager.streams.add({
    name: link.names.metadataStream(index),
    subjects: [link.names.metadataSubjects(index)],
    storage: StorageType.File,
    num_replicas: link.streamReplicas,
    max_msgs_per_subject: 1,
    allow_atomic: true,
  });
}

/** Commits the keys in one batch; answers the events that subscribers are to get. */
export async function commitKeys(
  link: NatsLink,
  index: number,
  keys: readonly string[],
  bucket: string = BUCKET,
): Promise<ChangeEvent[]> {
  const { names, connection, random } = link;
  const id = Buffer.from(random.bytes(12)).toString("base64url");
  const headersOf = (place: number, isLast: boolean) => {
    const fields = headers();
    fields.set("Nats-Batch-Id", id);
    fields.set("Nats-Batch-Sequence", `${place}`);
    if (isLast) fields.set("Nats-Batch-Commit", "1");
    return fields;
  };
  for (const [place, key] of keys.entries()) {
    const subject = names.recordSubject(index, bucket as BucketName, key as ObjectKey);
    connection.publish(subject, `record of ${key}`, { headers: headersOf(place + 1, false) });
  }
  const events = keys.map((key) => pendingEvent(bucket, key));
  const outbox = encodeOutbox(events.map((event, place) => [event, keys.length - place]));
  const last = { headers: headersOf(keys.length + 1, true), ...PATIENT };
  const answer = await connection.request(names.outboxSubject(index, id), outbox, last);
  const { seq, error } = answer.json<{ seq: number; error?: unknown }>();
  if (error !== undefined) throw new Error(`the commit was refused: ${JSON.stringify(error)}`);
  return events.map((event, place) => ({ ...event, revision: seq - keys.length + place }));
}

function pendingEvent(bucket: string, key: string): PendingEvent {
  const version = `version of ${key}`;
  return {
    ...{ op: "put", bucket, key, version, sizeBytes: 3, etag: "e1" },
    ...{ contentType: "text/plain", strategy: "inline", modifiedAtMs: 1_750_000_000_000 },
  };
}

/** How many outbox messages are left. */
export async function countOutbox(link: NatsLink, index: number): Promise<number> {
  const manager = await jetstreamManager(link.connection, PATIENT);
  const filter = { subjects_filter: link.names.outboxSubjects(index) };
  const { state } = await manager.streams.info(link.names.metadataStream(index), filter);
  return Object.keys(state.subjects ?? {}).length;
}

/** Events in the order of their stream, with the subjects they came by; resolves when there are `count`. */
export async function readEvents(link: NatsLink, count: number): Promise<{ subject: string; event: ChangeEvent }[]> {
  const client = jetstream(link.connection, { timeout: 1_000 });
  const found: { subject: string; event: ChangeEvent }[] = [];
  for (;;) {
    try {
      const consumer = await client.consumers.get(link.names.eventsStream);
      const messages = await consumer.consume();
      for await (const message of messages) {
        found.push({ subject: message.subject, event: message.json<ChangeEvent>() });
        if (found.length >= count && message.info.pending === 0) return found;
      }
    } catch (cause) {
      if (link.connection.isClosed()) throw cause;
      // The publisher under test has not created the stream yet, or it has no leader at the moment.
      found.length = 0;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

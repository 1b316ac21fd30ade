/**
 * Stores change events in their stream, in order, each at least once.
 *
 * A batch is stored whole or not at all, so nothing overtakes an event that failed. Each event has a message id, which
 * the servers remember for a while: when a batch's answer was lost and it is sent again, or a new leader repeats what the
 * one before it had published, they refuse the batch, and its events are sent one after another, each waited for. Those
 * that are already there are then acknowledged without being stored again.
 */
import { jetstream } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import type { NatsLink } from "../nats/nats-link.ts";

export type EventMessage = {
  readonly subject: string;
  /** The same for every repetition of an event. */
  readonly id: string;
  readonly body: string;
};

/** Far below what a batch may have, so that it also stays small in bytes. */
export const EVENTS_PER_BATCH = 500;

const REQUEST_MS = 3_000;
const RETRY_MS = 250;
const DUPLICATE_IN_BATCH = 10_201;

/** Resolves with true when all are durable. Repeats what fails until `goesOn` says no, then answers false. */
export async function publishEvents(
  link: NatsLink,
  events: readonly EventMessage[],
  goesOn: () => boolean,
): Promise<boolean> {
  for (let start = 0; start < events.length; start += EVENTS_PER_BATCH) {
    const batch = events.slice(start, start + EVENTS_PER_BATCH);
    const outcome =
      batch.length === 1 ? "repeated" : await untilAnswered(link, goesOn, () => publishBatch(link, batch));
    if (outcome === null) return false;
    if (outcome === "stored") continue;
    for (const event of batch) {
      if ((await untilAnswered(link, goesOn, () => publishAlone(link, event))) === null) return false;
    }
  }
  return true;
}

/** What `action` resolves with, once it does; null when it must not be tried any more. */
async function untilAnswered<T>(link: NatsLink, goesOn: () => boolean, action: () => Promise<T>): Promise<T | null> {
  while (goesOn()) {
    try {
      return await action();
    } catch (cause) {
      link.logger.debug({ cause: String(cause) }, "change events were not acknowledged and are sent again");
      await link.clock.sleep(RETRY_MS);
    }
  }
  return null;
}

async function publishAlone(link: NatsLink, { subject, id, body }: EventMessage): Promise<void> {
  await jetstream(link.connection, { timeout: REQUEST_MS }).publish(subject, body, { msgID: id });
}

type BatchAnswer = {
  readonly count?: number;
  readonly error?: { readonly err_code: number; readonly description: string };
};

/** Whether the batch was stored, or holds an event that already is. */
async function publishBatch(link: NatsLink, events: readonly EventMessage[]): Promise<"stored" | "repeated"> {
  const { connection } = link;
  const batchId = Buffer.from(link.random.bytes(16)).toString("base64url");
  const last = events.length - 1;
  const headersOf = (index: number) => {
    const fields = headers();
    fields.set("Nats-Batch-Id", batchId);
    fields.set("Nats-Batch-Sequence", `${index + 1}`);
    fields.set("Nats-Msg-Id", (events[index] as EventMessage).id);
    if (index === last) fields.set("Nats-Batch-Commit", "1");
    return fields;
  };
  for (const [index, { subject, body }] of events.slice(0, last).entries()) {
    connection.publish(subject, body, { headers: headersOf(index) });
  }
  const { subject, body } = events[last] as EventMessage;
  const answer = await connection.request(subject, body, { headers: headersOf(last), timeout: REQUEST_MS });
  const { count, error } = answer.json<BatchAnswer>();
  if (error?.err_code === DUPLICATE_IN_BATCH) return "repeated";
  if (error !== undefined) throw new Error(`the batch was refused: ${error.description}`);
  if (count !== events.length) throw new Error(`${count} of ${events.length} events of a batch were stored`);
  return "stored";
}

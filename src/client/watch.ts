/**
 * Change events as they are committed. The stream that keeps them is found by its subject, so that a client need not
 * know what its cluster is called.
 */
import { DeliverPolicy, jetstream, jetstreamManager, type ConsumerMessages, type JsMsg } from "@nats-io/jetstream";
import type { ChangeEvent, ChangeOp } from "../domain/change-event.ts";
import { EVENT_SUBJECTS, eventSubject } from "../nats/nats-names.ts";
import { bucketHeaders, type BucketOptions } from "./address.ts";
import { backoffMs } from "./call.ts";
import type { GatewayLink } from "./gateway-link.ts";
import { KintsugiError } from "./kintsugi-error.ts";

export type WatchOptions = BucketOptions & {
  /** Only keys that begin so. */
  readonly prefix?: string;
  /** All unless given. */
  readonly ops?: readonly ChangeOp[];
  /**
   * `new`: what is committed from now on. A sequence: that event and all behind it, so to go on after a pause give the
   * last one seen plus 1. A time in milliseconds since 1970: what was published since.
   */
  readonly from?: "new" | { readonly sequence: number } | { readonly timeMs: number };
  readonly signal?: AbortSignal;
};

/** `sequence` is where it stands among all events, to go on from later. */
export type WatchEvent = ChangeEvent & { readonly sequence: number };

const BUCKET_DEFAULT = "default";
/** A consumer that says nothing for twice this long is gone. */
const HEARTBEAT_MS = 2_500;
const PULL_MS = 15_000;
/** Before it is asked whether the stream is there at all. */
const FAILURES_IN_A_ROW_MAX = 3;
/** Keys whose last revision is remembered, so that a repeated event is not given twice. */
const KEYS_REMEMBERED_MAX = 8_192;

/** Ends when the consumer stops iterating, `signal` aborts or the client is closed. @throws {KintsugiError} */
export async function* watchEvents(link: GatewayLink, options: WatchOptions): AsyncGenerator<WatchEvent, void, void> {
  bucketHeaders(options);
  const bucket = options.bucket ?? BUCKET_DEFAULT;
  const stream = await findStream(link);
  let start = await startOf(link, stream, options.from ?? "new");
  const seen = new SeenRevisions();
  for (let failures = 0; !hasEnded(link, options);) {
    try {
      for await (const message of eventsFrom(link, stream, bucket, options, start)) {
        failures = 0;
        start = { sequence: message.seq + 1 };
        const event = message.json<ChangeEvent>();
        const wanted = event.bucket === bucket && event.key.startsWith(options.prefix ?? "");
        if (wanted && seen.isNew(event)) yield { ...event, sequence: message.seq };
      }
    } catch (cause) {
      // Whatever the reason, nothing is lost: the next consumer starts behind the last event given.
      if (hasEnded(link, options)) return;
      failures += 1;
      const waitMs = backoffMs(link, Math.min(failures, 6), null);
      if (failures > FAILURES_IN_A_ROW_MAX && !(await streamExists(link, stream, cause))) throw noEvents(cause);
      await link.clock.sleep(waitMs, options.signal);
    }
  }
}

type Start = { readonly sequence: number } | { readonly timeMs: number };

async function* eventsFrom(
  link: GatewayLink,
  stream: string,
  bucket: string,
  { ops, signal }: WatchOptions,
  start: Start,
): AsyncGenerator<JsMsg> {
  const subjects =
    ops === undefined ? [eventSubject(bucket, "*" as ChangeOp)] : ops.map((op) => eventSubject(bucket, op));
  const from =
    "sequence" in start
      ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: Math.max(1, start.sequence) }
      : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(start.timeMs).toISOString() };
  const consumer = await jetstream(link.connection).consumers.get(stream, { filter_subjects: subjects, ...from });
  const messages: ConsumerMessages = await consumer.consume({ idle_heartbeat: HEARTBEAT_MS, expires: PULL_MS });
  const stop = () => messages.stop();
  // The library itself would only notice by heartbeats that stay away.
  const endReconnects = link.onReconnect(stop);
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  try {
    yield* messages;
  } finally {
    endReconnects();
    signal?.removeEventListener("abort", stop);
    await messages.close().catch(() => {});
  }
}

function hasEnded(link: GatewayLink, { signal }: WatchOptions): boolean {
  return signal?.aborted === true || link.connection.isClosed();
}

/** "From now on" is a place in the stream, found out once: a consumer that has to be made again must not skip anything. */
async function startOf(link: GatewayLink, stream: string, from: NonNullable<WatchOptions["from"]>): Promise<Start> {
  if (from !== "new") return from;
  const manager = await jetstreamManager(link.connection, { timeout: link.timeoutMs });
  const info = await manager.streams.info(stream);
  return { sequence: info.state.last_seq + 1 };
}

async function findStream(link: GatewayLink): Promise<string> {
  try {
    const manager = await jetstreamManager(link.connection, { timeout: link.timeoutMs });
    return await manager.streams.find(EVENT_SUBJECTS);
  } catch (cause) {
    throw noEvents(cause);
  }
}

/** True also where that cannot be told right now. */
async function streamExists(link: GatewayLink, stream: string, cause: unknown): Promise<boolean> {
  if (!/not found|no stream/i.test(String(cause))) return true;
  try {
    const manager = await jetstreamManager(link.connection, { timeout: link.timeoutMs });
    return (await manager.streams.find(EVENT_SUBJECTS)) === stream;
  } catch {
    return false;
  }
}

function noEvents(cause: unknown): KintsugiError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new KintsugiError("nats_unavailable", `There is no stream of change events to watch here: ${reason}`, {
    cause,
  });
}

/** The last revision of the keys met last. */
class SeenRevisions {
  readonly #revisions = new Map<string, number>();

  isNew({ key, revision }: ChangeEvent): boolean {
    const last = this.#revisions.get(key);
    if (last !== undefined && last >= revision) return false;
    // Deleting first moves the key to the end: the map drops what was met longest ago.
    this.#revisions.delete(key);
    this.#revisions.set(key, revision);
    if (this.#revisions.size > KEYS_REMEMBERED_MAX) {
      const [oldest] = this.#revisions.keys();
      this.#revisions.delete(oldest as string);
    }
    return true;
  }
}

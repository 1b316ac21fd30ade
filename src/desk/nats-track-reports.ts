/** What the tracks of all processes do: asked for when somebody wants to know, told by nobody unasked. */
import type { Msg } from "@nats-io/transport-node";
import { createInbox } from "@nats-io/transport-node";
import { isStoreError } from "../domain/errors.ts";
import type { TrackReport } from "../domain/healing.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { reportsCodec } from "./healing-codec.ts";

/** Answers whoever asks, until disposed. */
export function tellTracks(link: NatsLink, reports: () => readonly TrackReport[]): Disposable {
  const { connection, names, processName } = link;
  const subscription = connection.subscribe(names.tracksSubject, {
    callback: (failure, message) => {
      if (failure !== null || connection.isClosed()) return;
      message.respond(reportsCodec.encode({ process: processName, reports: [...reports()] }));
    },
  });
  return { [Symbol.dispose]: () => subscription.unsubscribe() };
}

/** Asks every process and waits until `expected` of them have answered, at most `waitMs`. Who is silent is left out. */
export async function askTracks(link: NatsLink, expected: number, waitMs: number): Promise<readonly TrackReport[]> {
  const { connection, clock, names } = link;
  const answers = new Map<string, readonly TrackReport[]>();
  const complete = new AbortController();
  const inbox = createInbox();
  const receive = (failure: Error | null, message: Msg) => {
    if (failure !== null || message.data.length === 0) return;
    try {
      const { process, reports } = reportsCodec.decode(message.data);
      answers.set(process, reports);
    } catch (cause) {
      if (!isStoreError(cause, "format_unknown")) throw cause;
    }
    if (answers.size >= expected) complete.abort();
  };
  const subscription = connection.subscribe(inbox, { callback: receive });
  try {
    connection.publish(names.tracksSubject, new Uint8Array(), { reply: inbox });
    if (expected > 0) await clock.sleep(waitMs, complete.signal);
    return [...answers.values()].flat();
  } finally {
    subscription.unsubscribe();
  }
}

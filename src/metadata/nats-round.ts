/** What a round of a commit lane sends, and what of it then stands at which sequence of the stream. */
import type { PendingEvent } from "../domain/change-event.ts";
import { encodeOutbox } from "../domain/change-event.ts";
import type { Revision } from "../domain/ids.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { encodeToken } from "../nats/nats-names.ts";
import type { BatchMember } from "./nats-batch.ts";
import type { StoredValue } from "./stored-value.ts";
import { withRevision } from "./stored-value.ts";
import type { StreamEntry } from "./stream-progress.ts";

export type RoundCommit = {
  readonly slot: string;
  readonly subject: string;
  readonly value: StoredValue;
  readonly ifRevision: Revision;
  readonly event: PendingEvent | null;
};

/**
 * Barriers of one process that the stream keeps. Each takes the place of the one so many before it, so that a process
 * which follows a little late still meets every sequence and knows that it was given nothing too late.
 */
const BARRIERS_KEPT = 64;
/** What a member takes beside its value: headers and framing. */
const MEMBER_OVERHEAD_BYTES = 200;
/** What an event takes beside the texts that clients choose. */
const EVENT_OVERHEAD_BYTES = 256;

/** Bytes that a commit adds to a batch, generously. */
export function batchBytesOf({ value, subject, event }: RoundCommit): number {
  const eventBytes = event === null ? 0 : EVENT_OVERHEAD_BYTES + 4 * event.key.length + event.contentType.length;
  return value.length + subject.length + MEMBER_OVERHEAD_BYTES + eventBytes;
}

/** The messages of a round: its records and, when any of them has an event, the outbox behind them; else a barrier. */
export function encodeRound(
  link: NatsLink,
  stream: number,
  round: { readonly commits: readonly RoundCommit[]; readonly id: string; readonly number: number },
): readonly [BatchMember, ...BatchMember[]] {
  const [first, ...others] = round.commits.map(memberOf);
  if (first === undefined) return [barrierOf(link, stream, round.number)];
  const { length } = round.commits;
  const events = round.commits.flatMap(({ event }, index) =>
    event === null ? [] : [[event, length - index] as const],
  );
  if (events.length === 0) return [first, ...others];
  const outbox = { subject: link.names.outboxSubject(stream, round.id), data: encodeOutbox(events), expected: null };
  return [first, ...others, outbox];
}

function memberOf({ subject, value, ifRevision }: RoundCommit): BatchMember {
  return { subject, data: value, expected: ifRevision };
}

function barrierOf({ names, processName }: NatsLink, stream: number, roundNumber: number): BatchMember {
  const subject = `${names.barrierSubject(stream)}.${encodeToken(processName)}.${roundNumber % BARRIERS_KEPT}`;
  return { subject, data: new Uint8Array(0), expected: null };
}

/** What the stream holds from `firstSequence` to `lastSequence`. Writes the revisions into the values. */
export function ownEntriesOf(
  commits: readonly RoundCommit[],
  { firstSequence, lastSequence }: { readonly firstSequence: number; readonly lastSequence: number },
): StreamEntry[] {
  const entries: StreamEntry[] = commits.map(({ slot, value }, index) => {
    const sequence = firstSequence + index;
    return { sequence, slot, value: withRevision(value, sequence as Revision) };
  });
  for (let sequence = firstSequence + commits.length; sequence <= lastSequence; sequence += 1) {
    entries.push({ sequence, slot: null, value: null });
  }
  return entries;
}

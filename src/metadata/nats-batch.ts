/**
 * One request to a metadata stream: a batch of records that is stored as a whole or not at all, or a barrier, a message
 * that says nothing and orders its sender behind everything stored before.
 *
 * | answer  | what is known                                                                                   |
 * |---------|-------------------------------------------------------------------------------------------------|
 * | stored  | on a quorum, at these sequences                                                                  |
 * | refused | this request stored nothing: some member's expectation was not met, as far as the answerer knew  |
 * | unknown | nothing: it may be stored, may never be, or may be yet                                           |
 *
 * The client library's own batches lose the expectations of their members, so the messages are made here.
 */
import type { MsgHdrs } from "@nats-io/transport-node";
import { headers } from "@nats-io/transport-node";
import type { NatsLink } from "../nats/nats-link.ts";

export type BatchMember = {
  readonly subject: string;
  readonly data: Uint8Array;
  /** The sequence of the subject's last message, 0 for none; null when it does not matter. */
  readonly expected: number | null;
};

export type BatchAnswer =
  | { readonly kind: "stored"; readonly firstSequence: number; readonly lastSequence: number }
  /** `sequence`: where the last message of the conflicting subject stands, when it was told. */
  | { readonly kind: "refused"; readonly sequence: number | null }
  | { readonly kind: "unknown"; readonly reason: string };

/** How long an answer may take before the request is given up. Electing a new leader takes longer than that. */
const ANSWER_MS_MAX = 1_500;
const EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence";
const WRONG_LAST_SEQUENCE = 10_071;
/** The same, where the server does not tell which sequence it met. */
const WRONG_LAST_SEQUENCE_UNKNOWN = 10_164;

type Answer = {
  readonly error?: { readonly err_code?: number; readonly description?: string };
  readonly seq?: number;
  readonly count?: number;
};

/** `batchId` must be fresh. Members stand in the stream one behind the other, in their order. Never rejects. */
export async function publishBatch(
  link: NatsLink,
  batchId: string,
  members: readonly [BatchMember, ...BatchMember[]],
): Promise<BatchAnswer> {
  try {
    const { connection } = link;
    const last = members.at(-1) as BatchMember;
    for (const [index, member] of members.entries()) {
      if (member === last) break;
      connection.publish(member.subject, member.data, { headers: headersOf(member, batchId, index + 1) });
    }
    const lastHeaders = members.length === 1 ? headersOf(last, null, 1) : headersOf(last, batchId, members.length);
    if (members.length > 1) lastHeaders.set("Nats-Batch-Commit", "1");
    const options = { headers: lastHeaders, timeout: ANSWER_MS_MAX };
    const message = await connection.request(last.subject, last.data, options);
    return readAnswer(message.json<Answer>(), members.length);
  } catch (cause) {
    return { kind: "unknown", reason: String(cause) };
  }
}

function headersOf(member: BatchMember, batchId: string | null, sequence: number): MsgHdrs {
  const made = headers();
  if (batchId !== null) {
    made.set("Nats-Batch-Id", batchId);
    made.set("Nats-Batch-Sequence", String(sequence));
  }
  if (member.expected !== null) made.set(EXPECTED_HEADER, String(member.expected));
  return made;
}

function readAnswer({ error, seq, count = 1 }: Answer, memberCount: number): BatchAnswer {
  if (error === undefined) {
    if (seq === undefined || count !== memberCount) return { kind: "unknown", reason: "the answer is not understood" };
    return { kind: "stored", firstSequence: seq - memberCount + 1, lastSequence: seq };
  }
  if (error.err_code === WRONG_LAST_SEQUENCE || error.err_code === WRONG_LAST_SEQUENCE_UNKNOWN) {
    const told = /(\d+)$/.exec(error.description ?? "")?.[1];
    return { kind: "refused", sequence: told === undefined ? null : Number(told) };
  }
  return { kind: "unknown", reason: `${error.err_code} ${error.description}` };
}

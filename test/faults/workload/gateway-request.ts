/** One request to one gateway, with a patience of its own, and what its answer says about the request itself. */
import type { Answer, RequestOptions, StoreClient } from "../../support/black-box/client.ts";
import { problemOf } from "../../support/black-box/client.ts";
import type { Answered } from "../history/recorder.ts";

/** The connection was never made: whatever was asked for has not happened. */
const NEVER_SENT: ReadonlySet<string> = new Set(["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"]);

export type Reply = { readonly answer: Answer } | { readonly lost: Answered };

export async function askGateway(
  client: StoreClient,
  patienceMs: number,
  method: string,
  target: string,
  options: RequestOptions = {},
): Promise<Reply> {
  try {
    const answer = await client.send(method, target, { ...options, signal: AbortSignal.timeout(patienceMs) });
    return { answer };
  } catch (cause) {
    const { code = "", message } = cause as NodeJS.ErrnoException;
    const outcome = NEVER_SENT.has(code) ? "failed" : "unknown";
    return { lost: { outcome, status: 0, meanings: [], note: code || message } };
  }
}

/** What an answer other than the ones asked for says about a write, or null when no write may be answered like that. */
export function outcomeOfRefusal({ status }: Answer): "failed" | "unknown" | null {
  // A write that may be stored is never answered with a conflict, nor one that was turned away at the door.
  if (status === 409 || status === 429) return "failed";
  return status >= 500 ? "unknown" : null;
}

/** Of an answer that tells of a failure. */
export function codeOf(answer: Answer): string | null {
  return answer.status < 400 ? null : problemOf(answer).code;
}

export function noteOf({ status, body }: Answer): string {
  return status < 400 ? "" : body.toString("utf8", 0, 300);
}

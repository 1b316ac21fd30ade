/** A client that remembers what it asked for and when it was answered, for promises about a span of time. */
import { StoreClient, type Answer, type RequestOptions } from "../black-box/client.ts";

export type RecordedRequest = {
  readonly method: string;
  readonly target: string;
  /** By the clock of `performance`. */
  readonly startedMs: number;
  /** Infinity while it waits. */
  endedMs: number;
  /** 0 without an answer. */
  status: number;
};

const WRITES: ReadonlySet<string> = new Set(["PUT", "POST", "PATCH", "DELETE"]);

export class RecordedClient extends StoreClient {
  readonly requests: RecordedRequest[] = [];

  override async send(method: string, target: string, options: RequestOptions = {}): Promise<Answer> {
    const request = { method, target, startedMs: performance.now(), endedMs: Number.POSITIVE_INFINITY, status: 0 };
    this.requests.push(request);
    try {
      const answer = await super.send(method, target, options);
      request.status = answer.status;
      return answer;
    } finally {
      request.endedMs = performance.now();
    }
  }

  /** Writes that began at this time or later and were answered by now, in the order of their beginning. */
  writesSince(sinceMs: number): RecordedRequest[] {
    return this.requests.filter(
      ({ method, startedMs, endedMs }) => WRITES.has(method) && startedMs >= sinceMs && Number.isFinite(endedMs),
    );
  }
}

export function isAcknowledged({ status }: RecordedRequest): boolean {
  return status >= 200 && status < 300;
}

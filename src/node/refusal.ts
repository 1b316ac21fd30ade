/** Answers to those who have not proved anything, or sent what cannot be understood. Nothing was done for them. */
import type { ErrorCode } from "../domain/errors.ts";
import type { HttpExchange } from "../runtime/http-exchange.ts";

/** Each status has one meaning for a client: 401 shake hands anew and repeat, 5xx later or elsewhere, others never. */
export type RefusalStatus = 400 | 401 | 403 | 404 | 405 | 408 | 411 | 413 | 431 | 500 | 503;

export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: RefusalStatus;
  readonly code: ErrorCode;

  constructor(status: RefusalStatus, code: ErrorCode, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The session is not known here, or its counter was used: whoever knows the secret can try again with another. */
export function sessionUnknown(): Refusal {
  return new Refusal(401, "node_refused", "This node does not know the session of the request: shake hands first");
}

export async function sendRefusal(exchange: HttpExchange, refusal: Refusal): Promise<void> {
  // Half of an answer is out already: the connection is all there is to say it with.
  if (exchange.headSent) return exchange.abort();
  const body = refusalBody(refusal);
  const headers = ["Content-Type", "application/json", "Content-Length", String(body.length)];
  await exchange.send(refusal.status, headers, exchange.method === "HEAD" ? null : body);
}

/** A whole HTTP answer for bytes that were no request. */
export function rawRefusal(status: 400 | 408 | 431): string {
  const text = { 400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large" }[status];
  const body = refusalBody(new Refusal(status, "request_malformed", "The bytes received are not an HTTP/1.1 request"));
  return [
    `HTTP/1.1 ${status} ${text}`,
    "Connection: close",
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "",
    body.toString(),
  ].join("\r\n");
}

function refusalBody({ code, message }: Refusal): Buffer {
  return Buffer.from(JSON.stringify({ code, message }));
}

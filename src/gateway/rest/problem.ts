/** Errors on the wire: RFC 9457 problem documents. */
import type { HeaderList, HttpExchange } from "../../runtime/http-exchange.ts";
import { StoreError, type ErrorCode } from "../../domain/errors.ts";
import { PROBLEMS, type ProblemKind } from "./errors.ts";

/** Answers with a problem. Anything but a `StoreError` becomes `internal` and tells nothing. */
export async function sendProblem(
  exchange: HttpExchange,
  cause: unknown,
  requestId: string,
  headers: HeaderList = [],
): Promise<void> {
  const error = asStoreError(cause);
  const kind: ProblemKind = PROBLEMS[error.code];
  // Part of what was promised is out already: the connection is all there is to say it with.
  if (exchange.headSent) return exchange.abort();
  const body = Buffer.from(JSON.stringify(problemDocument(error, requestId)));
  const retryAfterS = error.details["retryAfterS"] ?? kind.retryAfterS;
  if (retryAfterS !== undefined) headers.push("Retry-After", String(retryAfterS));
  if (error.code === "range_invalid") headers.push("Content-Range", `bytes */${String(error.details["sizeBytes"])}`);
  headers.push("X-Request-Id", requestId, "Cache-Control", "no-store");
  headers.push("Content-Type", "application/problem+json", "Content-Length", String(body.length));
  await exchange.send(kind.status, headers, exchange.method === "HEAD" ? null : body);
}

export function asStoreError(cause: unknown): StoreError {
  return cause instanceof StoreError ? cause : new StoreError("internal", "Unexpected failure", { cause });
}

/** A whole HTTP answer for bytes that were no request. */
export function rawProblem(status: 400 | 408 | 431, requestId: string): string {
  const [code, text]: [ErrorCode, string] =
    status === 408
      ? ["request_timeout", "The headers did not arrive in time"]
      : status === 431
        ? ["request_malformed", "The headers are too large"]
        : ["request_malformed", "The bytes received are not an HTTP/1.1 request"];
  const document = { ...problemDocument(new StoreError(code, text), requestId), status };
  const body = JSON.stringify(document);
  const reason = { 400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large" }[status];
  return [
    `HTTP/1.1 ${status} ${reason}`,
    "Connection: close",
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "",
    body,
  ].join("\r\n");
}

function problemDocument(error: StoreError, requestId: string) {
  const { status, title, open }: ProblemKind = PROBLEMS[error.code];
  return {
    ...(open ? error.details : {}),
    type: `urn:kintsugi:problem:${error.code}`,
    title,
    status,
    code: error.code,
    detail: open ? error.message : `${title}. The log of the server has more under the request id.`,
    requestId,
  };
}

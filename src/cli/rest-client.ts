/**
 * A small HTTP client over node:http. `fetch` and `URL` are of no use here: both turn `a/../b` into `b` before anything
 * is sent. Bodies stream both ways; every wait for the store ends.
 */
import http from "node:http";
import https from "node:https";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import type { Clock } from "../lib/clock.ts";
import { CliError, EXIT, exitCodeOf, usageError } from "./exit.ts";

/** Longest silence of the store while it is its turn. */
const IDLE_MS = 60_000;
const PROBLEM_BYTES_MAX = 64 * 1024;
const JSON_BYTES_MAX = 64 * 1024 * 1024;

export type RestRequest = {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE";
  /** Raw request target below the base address; see `targets.ts`. */
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: {
    readonly chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    /** Null: unknown, sent in chunked coding. */
    readonly sizeBytes: number | null;
  };
  /** Statuses besides 2xx and 304 that are answers, not failures. */
  readonly accept?: readonly number[];
};

export type RestResponse = {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** To be read to its end or dropped with `break`. @throws {CliError} `connection_lost` */
  readonly chunks: AsyncIterable<Uint8Array>;
};

export type RestClientOptions = {
  readonly url: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly idleMs?: number;
};

/** Owns its connections until `close`. */
export class RestClient {
  readonly #base: URL;
  readonly #agent: http.Agent;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #idleMs: number;

  constructor(options: RestClientOptions) {
    this.#base = parseBaseUrl(options.url);
    this.#agent =
      this.#base.protocol === "https:" ? new https.Agent({ keepAlive: true }) : new http.Agent({ keepAlive: true });
    this.#clock = options.clock;
    this.#signal = options.signal;
    this.#idleMs = options.idleMs ?? IDLE_MS;
  }

  /**
   * Sends one request. A wanted answer comes back with its body unread; any other is thrown.
   * @throws {CliError} with the code and request id of the store's problem document; `unreachable`, `connection_lost`
   */
  async request(options: RestRequest): Promise<RestResponse> {
    const request = this.#open(options);
    const answered = answerOf(request);
    // The answer may come, or the connection fail, while the body is still being sent: nobody listens then.
    answered.catch(() => {});
    try {
      const early = await this.#send(request, options, answered);
      const response = early ?? (await this.#within(answered, "an answer"));
      const chunks = this.#chunksOf(response);
      const status = response.statusCode ?? 0;
      const wanted = (status >= 200 && status < 300) || status === 304 || options.accept?.includes(status) === true;
      if (wanted) return { status, headers: response.headers, chunks };
      throw await problemOf(status, response.headers, chunks);
    } catch (cause) {
      request.destroy();
      throw this.#explain(cause);
    }
  }

  /** Sends one request and reads its JSON answer. */
  async requestJson(options: RestRequest): Promise<unknown> {
    const response = await this.request(options);
    const bytes = await collect(response.chunks, JSON_BYTES_MAX);
    return (
      parseJson(bytes) ?? fail(`The answer to ${options.method} is not JSON: is ${this.#base.origin} a Kintsugi store?`)
    );
  }

  close(): void {
    this.#agent.destroy();
  }

  #open(options: RestRequest): http.ClientRequest {
    const headers: Record<string, string | number> = { accept: "*/*", ...options.headers };
    if (options.body?.sizeBytes != null) headers["content-length"] = options.body.sizeBytes;
    else if (options.body !== undefined) headers["transfer-encoding"] = "chunked";
    const { protocol, hostname, port, pathname } = this.#base;
    return (protocol === "https:" ? https : http).request({
      agent: this.#agent,
      method: options.method,
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
      path: `${pathname.replace(/\/$/, "")}${options.target}`,
      headers,
      signal: this.#signal,
    });
  }

  /** Sends the body, if any. Resolves early with the answer when the store does not want the rest. */
  async #send(
    request: http.ClientRequest,
    options: RestRequest,
    answered: Promise<http.IncomingMessage>,
  ): Promise<http.IncomingMessage | null> {
    let early: http.IncomingMessage | null = null;
    void answered.then(
      (response) => (early = response),
      () => {},
    );
    for await (const chunk of options.body?.chunks ?? []) {
      if (early !== null) return early;
      if (request.destroyed) return await answered;
      if (request.write(chunk)) continue;
      const { promise: drained, resolve } = Promise.withResolvers<void>();
      request.once("drain", resolve);
      await this.#within(Promise.race([drained, answered]), "room for more of the body");
    }
    request.end();
    return null;
  }

  async *#chunksOf(response: http.IncomingMessage): AsyncGenerator<Uint8Array> {
    const iterator = response[Symbol.asyncIterator]();
    let receivedBytes = 0;
    try {
      for (;;) {
        const next = await this.#within(iterator.next(), "more of the body");
        if (next.done === true) break;
        const chunk = next.value as Uint8Array;
        receivedBytes += chunk.length;
        yield chunk;
      }
    } catch (cause) {
      throw this.#explain(cause, receivedBytes);
    } finally {
      if (!response.complete) response.destroy();
    }
    if (!response.complete) throw this.#explain(new Error("aborted"), receivedBytes);
  }

  async #within<T>(work: Promise<T>, awaited: string): Promise<T> {
    return await withDeadline(
      this.#clock,
      deadlineIn(this.#clock, this.#idleMs),
      work,
      () =>
        new CliError(
          EXIT.unavailable,
          "timeout",
          `${this.#base.origin} was silent for ${this.#idleMs / 1_000} s while ${awaited} was due`,
        ),
    );
  }

  /** Connection failures in words of this program; errors of the caller's own body source pass through. */
  #explain(cause: unknown, receivedBytes?: number): unknown {
    if (this.#signal.aborted) return new CliError(EXIT.interrupted, "interrupted", "Stopped at your request");
    if (cause instanceof CliError || !(cause instanceof Error)) return cause;
    const code = "code" in cause ? String(cause.code) : cause.message;
    const origin = this.#base.origin;
    if (UNREACHABLE.has(code)) {
      const message = `Cannot reach ${origin} (${code}): start a store with \`kintsugi serve\`, or name another with --url`;
      return new CliError(EXIT.unavailable, "unreachable", message);
    }
    if (code.startsWith("HPE_")) {
      return new CliError(EXIT.failure, "not_a_store", `${origin} does not speak HTTP: name a store with --url`);
    }
    if (!LOST.has(code)) return cause;
    const progress = receivedBytes === undefined ? "before it answered" : `after ${receivedBytes} bytes of its answer`;
    return new CliError(EXIT.unavailable, "connection_lost", `${origin} closed the connection ${progress}`);
  }
}

const UNREACHABLE = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "ConnectionRefused",
]);
const LOST = new Set([
  "ECONNRESET",
  "EPIPE",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ERR_STREAM_DESTROYED",
  "ECONNABORTED",
  "aborted",
]);

/** At most `bytesMax` of a body. */
export async function collect(chunks: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes >= bytesMax) break;
  }
  return Buffer.concat(parts).subarray(0, bytesMax);
}

function parseBaseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:") || url.search !== "" || url.hash !== "") {
    throw usageError(`${JSON.stringify(text)} is no address of a store: give one such as http://127.0.0.1:8000`);
  }
  if (url.username !== "" || url.password !== "") throw usageError("The address may not hold a user name or password");
  return url;
}

function answerOf(request: http.ClientRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve);
    // Stays for the request's whole life: after the answer an error of the socket is the body's affair.
    request.on("error", reject);
  });
}

async function problemOf(
  status: number,
  headers: http.IncomingHttpHeaders,
  chunks: AsyncIterable<Uint8Array>,
): Promise<CliError> {
  const body = parseJson(await collect(chunks, PROBLEM_BYTES_MAX).catch(() => new Uint8Array()));
  const fields = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const textOf = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
  const code = textOf(fields["code"]) ?? `http_${status}`;
  const message = textOf(fields["detail"]) ?? textOf(fields["title"]) ?? `The store answered ${status}`;
  const retryAfter = textOf(headers["retry-after"]);
  const advice = retryAfter === null ? "" : `; try again in ${retryAfter} s`;
  const requestId = textOf(fields["requestId"]) ?? textOf(headers["x-request-id"]);
  return new CliError(exitCodeOf(code, status), code, `${message}${advice}`, requestId);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch {
    return null;
  }
}

function fail(message: string): never {
  throw new CliError(EXIT.failure, "answer_unexpected", message);
}

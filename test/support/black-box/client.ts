/**
 * An HTTP client that sends the request target exactly as given and answers with exactly what came back. It keeps its
 * connections, as the clients of a store do.
 */
import { Agent, request, type ClientRequest, type IncomingMessage } from "node:http";
import { once } from "node:events";
import type { Receipt } from "../../../src/domain/receipt.ts";

export type RequestOptions = {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  /** Sends the body without its length, in pieces of odd sizes. */
  readonly chunked?: boolean;
  /** Breaks the connection off. */
  readonly signal?: AbortSignal;
};

export type Answer = {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
};

/** RFC 9457, as far as tests look at it. */
export type Problem = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly requestId: string;
  readonly [fact: string]: unknown;
};

const PIECE_BYTES = [1, 17, 4_096, 65_536, 100_003] as const;

export class StoreClient implements Disposable {
  readonly url: URL;
  readonly #agent: Agent;

  /** `connections` requests at a time; more wait for a connection. */
  constructor(url: string, connections = 16) {
    this.url = new URL(url);
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** `target` is everything from the first slash on, percent escapes and all. */
  async send(method: string, target: string, options: RequestOptions = {}): Promise<Answer> {
    const outgoing = this.open(method, target, headersOf(options), options.signal);
    const answered = responseOf(outgoing);
    void writeBody(outgoing, options, answered);
    const incoming = await answered;
    return { status: incoming.statusCode ?? 0, headers: incoming.headers, body: await bodyOf(incoming) };
  }

  get(target: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.send("GET", target, { headers });
  }

  put(target: string, body: Uint8Array | string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.send("PUT", target, { headers, body });
  }

  patch(target: string, patch: Uint8Array | string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.send("PATCH", target, {
      headers: { "content-type": "application/merge-patch+json", ...headers },
      body: patch,
    });
  }

  /** A request whose body and answer the caller handles. */
  open(
    method: string,
    target: string,
    headers: Readonly<Record<string, string>> = {},
    signal?: AbortSignal,
  ): ClientRequest {
    const { hostname, port } = this.url;
    const where = { agent: this.#agent, host: hostname, port, method, path: target, headers };
    const outgoing = request(signal === undefined ? where : { ...where, signal });
    // A server that has answered may close before it has taken the whole body.
    outgoing.on("error", () => {});
    return outgoing;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** The answer's head. */
export async function responseOf(outgoing: ClientRequest): Promise<IncomingMessage> {
  const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
  return incoming;
}

export function problemOf(answer: Answer): Problem {
  return JSON.parse(answer.body.toString()) as Problem;
}

export function receiptOf(answer: Answer): Receipt {
  if (answer.status !== 200 && answer.status !== 201) {
    throw new Error(`A write was answered ${answer.status}: ${answer.body.toString().slice(0, 500)}`);
  }
  return JSON.parse(answer.body.toString()) as Receipt;
}

export async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  if (!incoming.complete) throw new Error("The answer broke off");
  return Buffer.concat(chunks);
}

/** One path segment per part of the key: what a careful client sends. */
export function pathOf(key: string, prefix = "/objects/"): string {
  return prefix + key.split("/").map(encodeURIComponent).join("/");
}

function headersOf({ headers = {}, body, chunked = false }: RequestOptions): Record<string, string> {
  if (body === undefined) return headers;
  const framing = chunked
    ? { "transfer-encoding": "chunked" }
    : { "content-length": String(Buffer.byteLength(body as string | Buffer)) };
  return { ...framing, ...headers };
}

async function writeBody(
  outgoing: ClientRequest,
  { body, chunked = false }: RequestOptions,
  answered: Promise<unknown>,
): Promise<void> {
  if (body === undefined || !chunked) {
    outgoing.end(body);
    return;
  }
  const bytes = Buffer.from(body as Buffer);
  // An early answer or a broken connection ends the wait for room, and with it the upload: the server may refuse the rest.
  let over = false;
  const end = answered.then(
    () => (over = true),
    () => (over = true),
  );
  for (let at = 0, turn = 0; at < bytes.length && !over; turn += 1) {
    const pieceEnd = at + (PIECE_BYTES[turn % PIECE_BYTES.length] as number);
    if (!outgoing.write(bytes.subarray(at, pieceEnd))) {
      await Promise.race([new Promise((resolve) => outgoing.once("drain", resolve)), end]);
    }
    at = pieceEnd;
  }
  outgoing.end();
}

/**
 * The one HTTP server of all three runtimes, over node:http. It accepts connections, turns away what is no proper
 * request (`http-rules.ts`), keeps pipelined requests in order, and closes without cutting off who is being served.
 * What a request means is the application's business.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { StoreError } from "../domain/errors.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { HttpExchange, type ExchangeContext } from "./http-exchange.ts";
import { findRequestFault } from "./http-rules.ts";
import { ProgressWatch, type ProgressLimits } from "./progress-watch.ts";

export type HttpServerSettings = {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly connectionsMax: number;
  /** From the first byte of a request, or from the connection's start, to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** How long an idle connection is kept. Longer than the usual idle time of proxies, so that they close first. */
  readonly keepAliveMs: number;
  readonly headerBytesMax: number;
  /** How long a close waits for requests in flight. */
  readonly drainMs: number;
  readonly progress: ProgressLimits;
};

export type HttpServerParts = {
  readonly clock: Clock;
  /** Answers a request. Resolves when the answer has been handed over; must not reject. */
  readonly serve: (exchange: HttpExchange) => Promise<void>;
  /** Answers a request that is none, or that came too late. Must not reject. */
  readonly refuse: (exchange: HttpExchange, fault: StoreError) => Promise<void>;
  /** A whole answer for a client whose bytes could not be parsed into a request. */
  readonly rawRefusal: (status: 400 | 408 | 431) => string;
};

export type HttpServer = {
  readonly port: number;
  readonly connections: () => number;
  /** Stops accepting, waits for requests in flight up to `drainMs`, then breaks what is left. Idempotent. */
  close(): Promise<void>;
};

const HEADERS_CHECK_MS = 1_000;
const DRAIN_CHECK_MS = 20;
const RAW_LINGER_MS = 1_000;
/** Requests that may wait on a connection behind the one being answered. */
const PIPELINED_MAX = 256;

/** @throws {Error} of the system when the address cannot be listened on */
export async function startHttpServer(parts: HttpServerParts, settings: HttpServerSettings): Promise<HttpServer> {
  const progress = new ProgressWatch(parts.clock, settings.progress);
  const state = { closing: false };
  const context: ExchangeContext = { clock: parts.clock, progress, closing: () => state.closing };
  const accept = createAcceptor(parts, context);
  const server = createServer({
    // A total time would kill slow honest uploads; progress is watched instead.
    requestTimeout: 0,
    headersTimeout: settings.headersTimeoutMs,
    connectionsCheckingInterval: HEADERS_CHECK_MS,
    keepAliveTimeout: settings.keepAliveMs,
    maxHeaderSize: settings.headerBytesMax,
    insecureHTTPParser: false,
    requireHostHeader: false,
    noDelay: true,
  });
  // Without this the parser would drop headers beyond a count, and with them what the rules look at.
  server.maxHeadersCount = 0;
  server.on("request", (incoming, outgoing) => accept(incoming, outgoing, false));
  server.on("checkContinue", (incoming, outgoing) => accept(incoming, outgoing, true));
  server.on("checkExpectation", (incoming, outgoing) => accept(incoming, outgoing, false));
  server.on("clientError", (cause: NodeJS.ErrnoException, socket: Socket) => refuseRaw(parts, cause, socket));
  const sockets = trackSockets(server, settings.connectionsMax);
  const port = await listen(server, settings);
  let closed: Promise<void> | null = null;
  const close = async () => {
    state.closing = true;
    await drain(parts.clock, server, sockets, settings.drainMs);
    progress.close();
  };
  return { port, connections: () => sockets.size, close: () => (closed ??= close()) };
}

/** The exchange that a socket carries, to know what may still be written to it. */
const exchangeOfSocket = new WeakMap<object, HttpExchange>();

function createAcceptor({ serve, refuse }: HttpServerParts, context: ExchangeContext) {
  const handle = (exchange: HttpExchange): Promise<void> => {
    const fault = findFault(exchange);
    if (fault !== null) {
      exchange.keepAlive = false;
      return refuse(exchange, new StoreError("request_malformed", fault));
    }
    if (!context.closing()) return serve(exchange);
    return refuse(exchange, new StoreError("shutting_down", "The server is shutting down: try another or later"));
  };
  return (incoming: IncomingMessage, outgoing: ServerResponse, expectsContinue: boolean): void => {
    const { socket } = incoming;
    const previous = exchangeOfSocket.get(socket);
    const waits = previous !== undefined && !previous.answered;
    const queued = waits ? previous.queued + 1 : 0;
    if (queued > PIPELINED_MAX) return void socket.destroy();
    const exchange = new HttpExchange(context, incoming, outgoing, { expectsContinue, queued });
    exchangeOfSocket.set(socket, exchange);
    // A pipelined request may depend on the one before, and the parsers hand both over at once.
    if (waits) exchange.handled = previous.handled.then(() => (previous.keepAlive ? handle(exchange) : undefined));
    // Behind a request whose framing could not be trusted comes nothing that could be.
    else if (previous === undefined || previous.keepAlive) exchange.handled = handle(exchange);
    else exchange.keepAlive = false;
  };
}

function findFault({ incoming, body }: HttpExchange): string | null {
  const fault = findRequestFault(incoming);
  if (fault !== null || incoming.headers.expect === undefined || body.expectsContinue) return fault;
  return "The only expectation that this server can meet is 100-continue";
}

function refuseRaw(parts: HttpServerParts, cause: NodeJS.ErrnoException, socket: Socket): void {
  const exchange = exchangeOfSocket.get(socket);
  const answering = exchange !== undefined && !exchange.finished && (exchange.headSent || exchange.queued > 0);
  if (exchange !== undefined) {
    // Whatever its handler still wants to say must not mix with the bytes written here.
    exchange.broken = true;
    exchange.body.cancel();
  }
  if (answering || !socket.writable || cause.code === "ECONNRESET") return void socket.destroy();
  const status = statusOfParserError(cause.code);
  parts.clock.startTimer(RAW_LINGER_MS, () => socket.destroy());
  socket.end(parts.rawRefusal(status));
}

function statusOfParserError(code: string | undefined): 400 | 408 | 431 {
  if (code === "HPE_HEADER_OVERFLOW") return 431;
  return code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400;
}

function trackSockets(server: Server, connectionsMax: number): Set<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= connectionsMax) return void socket.destroy();
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}

function listen(server: Server, settings: HttpServerSettings): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(settings.port, settings.host, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

async function drain(clock: Clock, server: Server, sockets: ReadonlySet<Socket>, drainMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  let expired = false;
  const timer: Timer = clock.startTimer(drainMs, () => {
    expired = true;
  });
  while (!expired) {
    let serving = 0;
    for (const socket of sockets) {
      if (exchangeOfSocket.get(socket)?.finished === false) serving += 1;
      else socket.destroySoon();
    }
    if (serving === 0) break;
    await clock.sleep(DRAIN_CHECK_MS);
  }
  timer.cancel();
  // What was written to a connection that is done may still be on its way out; give it one more check.
  await clock.sleep(DRAIN_CHECK_MS);
  for (const socket of sockets) socket.destroy();
  await closed;
}

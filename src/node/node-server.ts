/**
 * The storage node's data plane: a `BlobStore` behind HTTP, for the gateways and healers of its own cluster and nobody
 * else. Whatever reads or writes blobs proves the cluster's secret first (`blob/node-proof.ts`); until it has, nothing is
 * done for it and no body is read. `/health` and `/metrics` are open to everyone who can reach the port, which belongs on
 * an internal network; they tell nothing about blobs but their number.
 */
import type { Registry } from "prom-client";
import type { BlobStore } from "../blob/blob-store.ts";
import { ClusterProof } from "../blob/node-proof.ts";
import { WIRE_LIMITS } from "../blob/wire-limits.ts";
import {
  decodeListRequest,
  decodeMendRequest,
  decodeVerifyRequest,
  encodeListAnswer,
  encodeStatsAnswer,
  encodeVerifyAnswer,
  PROOF_HEADER,
  WIRE_PATHS,
} from "../blob/wire-messages.ts";
import { isStoreError } from "../domain/errors.ts";
import { isReadableNode } from "../domain/node-info.ts";
import type { AssertionError } from "../lib/assert.ts";
import { KIB, MIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Random } from "../lib/random.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { HttpExchange } from "../runtime/http-exchange.ts";
import { startHttpServer, type HttpServer } from "../runtime/http-server.ts";
import { serveBatch } from "./batch-route.ts";
import { CellMemory, type CellDeps } from "./cell-memory.ts";
import { createNodeMetrics, type NodeOperation } from "./metrics.ts";
import {
  asRefusal,
  readRequest,
  sendAnswer,
  sendFailure,
  takeMemory,
  toldError,
  type NodeRequest,
} from "./node-exchange.ts";
import { NodeSessions } from "./node-sessions.ts";
import { serveRead } from "./read-route.ts";
import { rawRefusal, Refusal, sendRefusal } from "./refusal.ts";
import { serveWrite } from "./write-route.ts";

export type NodeServerParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The process's own; the server adds its metrics to it. */
  readonly registry: Registry;
  readonly store: BlobStore;
  readonly clusterSecret: string;
  readonly version: string;
  /** Told of a broken invariant after its request was answered: the process should drain and stop. */
  readonly onBug: (cause: AssertionError) => void;
};

export type NodeServerSettings = {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly connectionsMax: number;
  readonly drainMs: number;
  /** After so long without a sign of life a client that should send or take bytes is cut off; 30 s unless given. */
  readonly idleMs?: number;
};

export type NodeServer = { readonly port: number; close(): Promise<void> };

const HEADERS_TIMEOUT_MS = 15_000;
/** Above the time that clients keep idle connections: they close first. */
const KEEP_ALIVE_MS = 65_000;
const HEADER_BYTES_MAX = 8 * KIB;
const IDLE_MS = 30_000;
const MEMORY_BYTES_MAX = 256 * MIB;
const MEND_WAIT_MS = 10_000;
const EMPTY = Buffer.alloc(0);

/** Listens, and answers until closed. The store is its caller's. @throws {Error} of the system when it cannot listen */
export async function startNodeServer(parts: NodeServerParts, settings: NodeServerSettings): Promise<NodeServer> {
  const { clock, random, logger, registry, store } = parts;
  const sessions = new NodeSessions({ node: store.node, proof: new ClusterProof(parts.clusterSecret), clock, random });
  let server: HttpServer | null = null;
  const metrics = createNodeMetrics(registry, {
    sessions: () => sessions.count,
    connections: () => server?.connections() ?? 0,
  });
  const deps: ServerDeps = {
    ...{ clock, logger, store, metrics, registry, sessions },
    version: parts.version,
    onBug: parts.onBug,
    memory: new Semaphore(MEMORY_BYTES_MAX, clock),
    cells: new CellMemory(),
  };
  const idleMs = settings.idleMs ?? IDLE_MS;
  server = await startHttpServer(
    {
      clock,
      serve: (exchange) => serveExchange(deps, exchange),
      refuse: (exchange, fault) =>
        answer(deps, exchange, "other", () => {
          const status = fault.code === "shutting_down" ? 503 : 400;
          return Promise.reject(new Refusal(status, fault.code, fault.message));
        }),
      rawRefusal,
    },
    {
      host: settings.host,
      port: settings.port,
      connectionsMax: settings.connectionsMax,
      headersTimeoutMs: HEADERS_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      headerBytesMax: HEADER_BYTES_MAX,
      drainMs: settings.drainMs,
      // A writer without a cell to send says that it is alive, so a byte per second is a sign of life and no rate.
      progress: { bytesPerSecondMin: 1, windowMs: idleMs, stallMs: idleMs },
    },
  );
  return { port: server.port, close: () => server.close() };
}

type ServerDeps = CellDeps & {
  readonly registry: Registry;
  readonly sessions: NodeSessions;
  readonly version: string;
};

type Route = {
  readonly operation: NodeOperation;
  readonly serve: (deps: ServerDeps, request: NodeRequest) => Promise<void>;
};

const ROUTES: ReadonlyMap<string, Route> = new Map<string, Route>([
  [WIRE_PATHS.batch, { operation: "batch", serve: serveBatch }],
  [WIRE_PATHS.write, { operation: "write", serve: serveWrite }],
  [WIRE_PATHS.read, { operation: "read", serve: serveRead }],
  [WIRE_PATHS.list, { operation: "list", serve: serveList }],
  [WIRE_PATHS.verify, { operation: "verify", serve: serveVerify }],
  [WIRE_PATHS.mend, { operation: "mend", serve: serveMend }],
  [WIRE_PATHS.stats, { operation: "stats", serve: serveStats }],
]);

function serveExchange(deps: ServerDeps, exchange: HttpExchange): Promise<void> {
  const at = exchange.target.indexOf("?");
  const path = at === -1 ? exchange.target : exchange.target.slice(0, at);
  const query = at === -1 ? "" : exchange.target.slice(at + 1);
  const route = ROUTES.get(path);
  if (route !== undefined) {
    return answer(deps, exchange, route.operation, () => serveProved(deps, exchange, route, query));
  }
  if (path === WIRE_PATHS.session) return answer(deps, exchange, "session", () => serveSession(deps, exchange));
  if (path === "/health") return answer(deps, exchange, "health", () => serveHealth(deps, exchange));
  if (path === "/metrics") return answer(deps, exchange, "metrics", () => serveMetrics(deps, exchange));
  return answer(deps, exchange, "other", () => {
    throw new Refusal(404, "request_malformed", "There is nothing under this path");
  });
}

/** Runs a handler, refuses where it refuses, and counts. Never rejects. */
async function answer(
  deps: ServerDeps,
  exchange: HttpExchange,
  operation: NodeOperation,
  handle: () => Promise<void>,
): Promise<void> {
  let outcome = "ok";
  try {
    await handle();
  } catch (cause) {
    outcome = await refuse(deps, exchange, cause).catch(() => "internal");
    if (!exchange.answered) exchange.abort();
  }
  if (exchange.broken) outcome = "client_gone";
  deps.metrics.request(operation, outcome, { in: exchange.body.bytes, out: exchange.bytesOut });
}

async function refuse(deps: ServerDeps, exchange: HttpExchange, cause: unknown): Promise<string> {
  const known = asRefusal(cause);
  // The client is gone: there is nobody to tell.
  if (isStoreError(known, "body_incomplete")) return known.code;
  const refusal =
    known instanceof Refusal ? known : new Refusal(500, toldError(deps, known).code, "The node failed unexpectedly");
  if (refusal.status !== 401) exchange.keepAlive = false;
  deps.logger.debug({ status: refusal.status, reason: refusal.message }, "a request was refused");
  await sendRefusal(exchange, refusal);
  return refusal.code;
}

/** Serves whoever proves the secret; what fails from then on is told under the node's proof. */
async function serveProved(deps: ServerDeps, exchange: HttpExchange, route: Route, query: string): Promise<void> {
  if (exchange.method !== "POST") throw new Refusal(405, "method_not_allowed", "This path knows POST only");
  const header = exchange.incoming.headers[PROOF_HEADER.toLowerCase()];
  const proved = deps.sessions.admit(header, exchange.target, exchange.body.declaredBytes);
  const request: NodeRequest = { ...proved, exchange, query };
  try {
    await route.serve(deps, request);
  } catch (cause) {
    if (cause instanceof Refusal || isStoreError(cause, "body_incomplete")) throw cause;
    await sendFailure(deps, request, cause);
  }
}

async function serveSession(deps: ServerDeps, exchange: HttpExchange): Promise<void> {
  if (exchange.method !== "POST") throw new Refusal(405, "method_not_allowed", "This path knows POST only");
  const hello = await exchange.body.collect(WIRE_LIMITS.requestBytesMax);
  const body = deps.sessions.greet(Buffer.from(hello));
  await exchange.send(200, ["Content-Type", "application/octet-stream", "Content-Length", String(body.length)], body);
}

async function serveList(deps: ServerDeps, request: NodeRequest): Promise<void> {
  const { after, limit, waitMs } = decodeListRequest(await readRequest(request, WIRE_LIMITS.requestBytesMax));
  const infos = await deps.store.list(after, limit, deadlineIn(deps.clock, waitMs));
  await sendAnswer(deps, request, encodeListAnswer(infos));
}

async function serveVerify(deps: ServerDeps, request: NodeRequest): Promise<void> {
  const { id, waitMs } = decodeVerifyRequest(await readRequest(request, WIRE_LIMITS.requestBytesMax));
  await sendAnswer(deps, request, encodeVerifyAnswer(await deps.store.verify(id, deadlineIn(deps.clock, waitMs))));
}

async function serveMend(deps: ServerDeps, request: NodeRequest): Promise<void> {
  const permit = await takeMemory(deps, WIRE_LIMITS.mendRequestBytesMax, MEND_WAIT_MS);
  try {
    const wanted = decodeMendRequest(await readRequest(request, WIRE_LIMITS.mendRequestBytesMax));
    const { id, index, payload, waitMs } = wanted;
    await deps.store.mendCell(id, index, payload, deadlineIn(deps.clock, waitMs));
  } finally {
    permit.release();
  }
  await sendAnswer(deps, request, EMPTY);
}

async function serveStats(deps: ServerDeps, request: NodeRequest): Promise<void> {
  await readRequest(request, WIRE_LIMITS.requestBytesMax);
  await sendAnswer(deps, request, encodeStatsAnswer(await deps.store.usage()));
}

/** Whether this node can be read from: for supervisors and people. */
async function serveHealth({ store, version }: ServerDeps, exchange: HttpExchange): Promise<void> {
  const state = store.state();
  const isWell = isReadableNode(state);
  const about = { status: isWell ? "ok" : "unavailable", node: store.node, state, version };
  await sendText(exchange, isWell ? 200 : 503, "application/json", JSON.stringify(about));
}

async function serveMetrics({ registry }: ServerDeps, exchange: HttpExchange): Promise<void> {
  await sendText(exchange, 200, registry.contentType, await registry.metrics());
}

async function sendText(exchange: HttpExchange, status: number, contentType: string, text: string): Promise<void> {
  if (exchange.method !== "GET" && exchange.method !== "HEAD") {
    throw new Refusal(405, "method_not_allowed", "This path knows GET only");
  }
  const body = Buffer.from(text);
  const headers = ["Content-Type", contentType, "Cache-Control", "no-store", "Content-Length", String(body.length)];
  await exchange.send(status, headers, exchange.method === "HEAD" ? null : body);
}

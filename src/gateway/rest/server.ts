/** The REST door: puts router, limits and metrics on the HTTP server. */
import type { Registry } from "prom-client";
import type { HealingDesk } from "../../desk/healing-desk.ts";
import type { AssertionError } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import { KIB } from "../../lib/bytes.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Random } from "../../lib/random.ts";
import { startHttpServer, type HttpServer } from "../../runtime/http-server.ts";
import { runtimeName } from "../../runtime/runtime-name.ts";
import { createClientAddressOf } from "../client-address.ts";
import { registerClusterMetrics } from "../cluster-metrics.ts";
import type { ClusterView } from "../cluster-view.ts";
import { createHttpMetrics } from "../metrics.ts";
import { createRateLimit } from "../rate-limit.ts";
import type { ObjectApi } from "../object-api.ts";
import { rawProblem } from "./problem.ts";
import { createRouter } from "./router.ts";
import { createRequestIdSource, serveExchange } from "./serve-route.ts";

/** What an operator decides; from `config.ts`. */
export type RestSettings = {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly objectBytesMax: number;
  readonly connectionsMax: number;
  /** Clients that send a body more slowly, or do not take one, are cut off; 0 waits for ever. */
  readonly bodyBytesPerSecondMin: number;
  /** Per client address; null for no limit. */
  readonly writesPerSecondMax: number | null;
  readonly trustedProxies: readonly string[];
  readonly drainMs: number;
  /** How long a connection may take for the headers of a request; 15 s unless given. */
  readonly headersTimeoutMs?: number;
};

export type RestServerParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly api: ObjectApi;
  readonly cluster: ClusterView;
  /** Where operators meet healing; stays the caller's. */
  readonly desk: HealingDesk;
  /** The process's own; the server adds its metrics to it. */
  readonly registry: Registry;
  readonly version: string;
  /** Told of a broken invariant after its request was answered: the process should drain and stop. */
  readonly onBug: (cause: AssertionError) => void;
};

export type RestServer = HttpServer;

const HEADERS_TIMEOUT_MS = 15_000;
/** Above the 60 s after which common proxies drop idle connections: the side that reuses them must close first. */
const KEEP_ALIVE_MS = 65_000;
/** Room for 8 KiB of user metadata and a key of 1,024 bytes that are all percent-encoded. */
const HEADER_BYTES_MAX = 32 * KIB;
const PROGRESS_WINDOW_MS = 30_000;
const WRITE_STALL_MS = 60_000;

/** Listens, and answers until closed. @throws {Error} of the system when the address cannot be listened on */
export async function startRestServer(parts: RestServerParts, settings: RestSettings): Promise<RestServer> {
  const { clock, logger, api, cluster, desk, registry } = parts;
  const metrics = createHttpMetrics(clock, registry);
  registerClusterMetrics(registry, cluster);
  const nextRequestId = createRequestIdSource(parts.random);
  const about = { version: parts.version, runtime: runtimeName() };
  const { writesPerSecondMax } = settings;
  const deps = {
    clock,
    logger,
    metrics,
    clientAddressOf: createClientAddressOf(settings.trustedProxies),
    writeLimit: writesPerSecondMax === null ? null : createRateLimit(clock, writesPerSecondMax),
    nextRequestId,
    onBug: parts.onBug,
    api,
    desk,
    objectBytesMax: settings.objectBytesMax,
    clusterRoutes: { clock, cluster, desk, metrics, registry, about, startedAtMs: clock.monotonicMs() },
  };
  return await startHttpServer(
    {
      clock,
      serve: createRouter(deps),
      refuse: (exchange, fault) => serveExchange(deps, exchange, "refused", () => Promise.reject(fault)),
      rawRefusal: (status) => rawProblem(status, nextRequestId()),
    },
    {
      host: settings.host,
      port: settings.port,
      connectionsMax: settings.connectionsMax,
      headersTimeoutMs: settings.headersTimeoutMs ?? HEADERS_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      headerBytesMax: HEADER_BYTES_MAX,
      drainMs: settings.drainMs,
      progress: {
        bytesPerSecondMin: settings.bodyBytesPerSecondMin,
        windowMs: PROGRESS_WINDOW_MS,
        stallMs: WRITE_STALL_MS,
      },
    },
  );
}

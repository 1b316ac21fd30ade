/** What a process without a front door shows to operators: health, metrics, and its own state as JSON. */
import type { Registry } from "prom-client";
import { StoreError } from "../domain/errors.ts";
import { KIB } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { HttpExchange } from "../runtime/http-exchange.ts";
import type { HttpServer } from "../runtime/http-server.ts";
import { startHttpServer } from "../runtime/http-server.ts";
import { rawProblem, sendProblem } from "./rest/problem.ts";

export type StatusServerParts = {
  readonly clock: Clock;
  readonly registry: Registry;
  /** Answered at `/status`. */
  readonly status: () => object;
};

const CONNECTIONS_MAX = 64;
const HEADERS_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 65_000;
const HEADER_BYTES_MAX = 8 * KIB;
const PROGRESS = { bytesPerSecondMin: KIB, windowMs: 30_000, stallMs: 60_000 };
/** Nobody looks up a request to one of three pages. */
const REQUEST_ID = "status";

/** Listens until closed. @throws {Error} of the system when the address cannot be listened on */
export async function startStatusServer(
  parts: StatusServerParts,
  settings: { readonly host: string; readonly port: number; readonly drainMs: number },
): Promise<HttpServer> {
  const pages: Readonly<Record<string, () => Promise<[type: string, text: string]>>> = {
    "/health": () => Promise.resolve(["application/json", '{"status":"ok"}']),
    "/status": () => Promise.resolve(["application/json", JSON.stringify(parts.status())]),
    "/metrics": async () => [parts.registry.contentType, await parts.registry.metrics()],
  };
  const serve = async (exchange: HttpExchange) => {
    try {
      const page = pages[exchange.target];
      if (page === undefined || exchange.method !== "GET")
        throw new StoreError("object_not_found", `There are GET ${Object.keys(pages).join(", GET ")}`);
      const [type, text] = await page();
      const body = Buffer.from(text);
      const headers = ["Content-Type", type, "Content-Length", String(body.length), "Cache-Control", "no-store"];
      await exchange.send(200, headers, body);
    } catch (cause) {
      await sendProblem(exchange, cause, REQUEST_ID);
    }
  };
  return await startHttpServer(
    {
      clock: parts.clock,
      serve,
      refuse: (exchange, fault) => sendProblem(exchange, fault, REQUEST_ID),
      rawRefusal: (status) => rawProblem(status, REQUEST_ID),
    },
    {
      ...settings,
      connectionsMax: CONNECTIONS_MAX,
      headersTimeoutMs: HEADERS_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      headerBytesMax: HEADER_BYTES_MAX,
      progress: PROGRESS,
    },
  );
}

/** Many small requests at once, by autocannon. Requests are laid out before the clock starts. */
import { createRequire } from "node:module";

export type LoadRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
};

export type LoadOptions = {
  readonly connections: number;
  readonly seconds: number;
  /** What one connection sends, over and over. */
  readonly requestsOf: (connection: number) => readonly LoadRequest[];
};

export type LoadResult = {
  /** Requests answered with 2xx. */
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Requests answered otherwise or not at all. */
  readonly failed: number;
};

type Client = { setRequests(requests: readonly LoadRequest[]): void };
type AutocannonResult = {
  readonly "2xx": number;
  readonly non2xx: number;
  readonly errors: number;
  readonly latency: { readonly p50: number; readonly p99: number };
};
type Autocannon = (options: {
  url: string;
  connections: number;
  duration: number;
  timeout: number;
  setupClient: (client: Client) => void;
}) => Promise<AutocannonResult> & { once(event: "start", listener: () => void): void };

const REQUEST_SECONDS_MAX = 30;
const require = createRequire(import.meta.url);

export async function runLoad(url: string, options: LoadOptions): Promise<LoadResult> {
  // Loaded late and untyped: only the benchmark installs it, and the sources must type-check without.
  const autocannon = require("autocannon") as Autocannon;
  let connection = 0;
  const run = autocannon({
    url,
    connections: options.connections,
    duration: options.seconds,
    timeout: REQUEST_SECONDS_MAX,
    setupClient: (client) => client.setRequests(options.requestsOf(connection++)),
  });
  // Its own duration begins before all requests are laid out, which takes a while when there are many.
  let startedAt = performance.now();
  run.once("start", () => (startedAt = performance.now()));
  const result = await run;
  const seconds = (performance.now() - startedAt) / 1_000;
  return {
    perSecond: result["2xx"] / seconds,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failed: result.non2xx + result.errors,
  };
}

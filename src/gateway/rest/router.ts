/**
 * Which handler answers which path. Hono's router does the matching, on the raw path of the request target: nothing is
 * normalised on the way, and no web `Request`, `Response` or context is made for answers that are written to the node
 * stream anyway (together they cost a small GET a quarter of its time).
 */
import { RegExpRouter } from "hono/router/reg-exp-router";
import type { HealingDesk } from "../../desk/healing-desk.ts";
import { StoreError } from "../../domain/errors.ts";
import type { HttpExchange } from "../../runtime/http-exchange.ts";
import { createClusterRoutes, type ClusterRouteDeps } from "./cluster-routes.ts";
import { createHealingRoutes, type HealingRoutes } from "./healing-routes.ts";
import { createLandingRoute } from "./landing.ts";
import { createListRoute } from "./list-route.ts";
import type { ObjectApi } from "../object-api.ts";
import { createObjectRoutes } from "./object-routes.ts";
import { sendProblem } from "./problem.ts";
import { serveExchange, type RestHandler, type RouteDeps } from "./serve-route.ts";

export type RouterDeps = RouteDeps & {
  readonly api: ObjectApi;
  readonly objectBytesMax: number;
  readonly clusterRoutes: ClusterRouteDeps;
  readonly desk: HealingDesk;
};

type Method = "GET" | "PUT" | "POST" | "PATCH" | "DELETE";
type Route = {
  readonly path: string;
  /** As counted and logged. */
  readonly name: string;
  readonly handlers: Partial<Record<Method, RestHandler>>;
};

export type RestRouter = (exchange: HttpExchange) => Promise<void>;

export function createRouter(deps: RouterDeps): RestRouter {
  const routes = listRoutes(deps);
  const router = new RegExpRouter<readonly [name: string, handler: RestHandler]>();
  for (const { path, name, handlers } of routes) {
    for (const [method, handler] of Object.entries(handlers)) router.add(method, path, [name, handler]);
  }
  return (exchange) => {
    // Node leaves the body of an answer to HEAD out by itself, and the handlers do not make one.
    const method = exchange.method === "HEAD" ? "GET" : exchange.method;
    const match = router.match(method, pathOf(exchange.target))[0][0];
    if (match === undefined) return serveUnrouted(deps, routes, exchange);
    const [name, handler] = match[0];
    return serveExchange(deps, exchange, name, handler);
  };
}

function listRoutes(deps: RouterDeps): Route[] {
  const { api, objectBytesMax } = deps;
  const objects = createObjectRoutes({ api, objectBytesMax, admitWrite: (exchange) => admitWrite(deps, exchange) });
  const cluster = createClusterRoutes(deps.clusterRoutes);
  const objectHandlers = {
    GET: objects.get("/objects/"),
    PUT: objects.put,
    POST: objects.post,
    PATCH: objects.patch,
    DELETE: objects.delete("/objects/"),
  };
  return [
    { path: "/objects/:key{.+}", name: "/objects/:key", handlers: objectHandlers },
    { path: "/objects", name: "/objects", handlers: { GET: createListRoute(api) } },
    { path: "/write", name: "/write", handlers: { POST: objects.write } },
    { path: "/read/:key{.+}", name: "/read/:key", handlers: { GET: objects.get("/read/") } },
    { path: "/delete/:key{.+}", name: "/delete/:key", handlers: { DELETE: objects.delete("/delete/") } },
    { path: "/health", name: "/health", handlers: { GET: cluster.health } },
    { path: "/cluster/health", name: "/cluster/health", handlers: { GET: cluster.clusterHealth } },
    { path: "/cluster/stats", name: "/cluster/stats", handlers: { GET: cluster.stats } },
    ...healingRoutes(createHealingRoutes(deps.desk)),
    { path: "/metrics", name: "/metrics", handlers: { GET: cluster.metrics } },
    { path: "/metrics/summary", name: "/metrics/summary", handlers: { GET: cluster.summary } },
    { path: "/", name: "/", handlers: { GET: createLandingRoute(deps.clusterRoutes) } },
  ];
}

function healingRoutes(healing: HealingRoutes): Route[] {
  const of = (path: string, handlers: Route["handlers"]): Route => ({ path, name: path, handlers });
  return [
    of("/cluster/healing", { GET: healing.status }),
    of("/cluster/healing/jobs/:id", { GET: healing.job }),
    of("/cluster/healing/tracks/:track", { PUT: healing.setControl, PATCH: healing.changeControl }),
    of("/cluster/healing/:job", { POST: healing.start }),
    of("/cluster/recovery/:node", { POST: healing.recover }),
    of("/cluster/nodes/:node/drain", { POST: healing.drain }),
    of("/cluster/nodes/:node/undrain", { POST: healing.undrain }),
    of("/cluster/nodes/:node", { DELETE: healing.remove }),
  ];
}

function pathOf(target: string): string {
  const at = target.indexOf("?");
  return at === -1 ? target : target.slice(0, at);
}

/** @throws {StoreError} `rate_limited` */
function admitWrite({ writeLimit, clientAddressOf }: RouteDeps, exchange: HttpExchange): void {
  if (writeLimit === null) return;
  const retryAfterS = writeLimit.take(clientAddressOf(exchange.incoming));
  if (retryAfterS === null) return;
  throw new StoreError("rate_limited", "This address writes faster than it may", {
    retriable: true,
    details: { retryAfterS },
  });
}

/** 405 for a path that exists, else 404. */
function serveUnrouted(deps: RouterDeps, routes: readonly Route[], exchange: HttpExchange): Promise<void> {
  const path = pathOf(exchange.target);
  const route = routes.find((candidate) => matchesPath(candidate.path, path));
  return serveExchange(deps, exchange, route?.name ?? "unknown", async ({ requestId }) => {
    if (route === undefined) throw new StoreError("object_not_found", "There is nothing under this path");
    const methods: string[] = Object.keys(route.handlers);
    if (methods.includes("GET")) methods.push("HEAD");
    if (methods.includes(exchange.method))
      throw new StoreError("key_invalid", "The key is empty: give 1 to 1,024 bytes");
    const cause = new StoreError("method_not_allowed", `This path knows ${methods.join(", ")}`);
    await sendProblem(exchange, cause, requestId, ["Allow", methods.join(", ")]);
  });
}

/** Only the last part of a pattern may stand for more than one part of a path. Also true where a part is empty. */
function matchesPath(pattern: string, path: string): boolean {
  const parts = path.split("/");
  const wanted = pattern.split("/");
  const isOpen = wanted.at(-1)?.includes("{") === true;
  if (isOpen ? parts.length < wanted.length : parts.length !== wanted.length) return false;
  return wanted.every((part, index) => part.startsWith(":") || part === parts[index]);
}

/** The page at `/`: what runs here and three lines to try. One file, no script, nothing fetched from elsewhere. */
import { createHash } from "node:crypto";
import { STRATEGIES } from "../../domain/manifest.ts";
import type { NodeInfo } from "../../domain/node-info.ts";
import { clusterHealth, type ClusterView } from "../cluster-view.ts";
import { refuseBody } from "./answer.ts";
import type { RestHandler } from "./serve-route.ts";
import { parseQuery } from "./target.ts";

const STYLE = `
:root { color-scheme: light dark; --ink: #1d1b19; --paper: #fbf9f5; --gold: #8a6100; --line: #d9d2c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7de; --paper: #171614; --gold: #e3b04b; --line: #3b3730; } }
body { font: 1rem/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { margin-bottom: 0; } h1 + p { margin-top: .25rem; } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 2px solid var(--gold); }
pre { overflow-x: auto; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .4rem; } code { font-family: ui-monospace, monospace; font-size: .9rem; }
a { color: var(--gold); } dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; } dt { font-weight: 600; } dd { margin: 0; }
`;
const STYLE_HASH = createHash("sha256").update(STYLE).digest("base64");

export type LandingDeps = {
  readonly cluster: Pick<ClusterView, "nodes" | "writeNodesMin" | "processes">;
  readonly about: { readonly version: string; readonly runtime: string };
};

export function createLandingRoute(deps: LandingDeps): RestHandler {
  return async ({ exchange, requestId, query }) => {
    refuseBody(exchange);
    parseQuery(query, []);
    const host = exchange.incoming.headers.host ?? "localhost";
    const page = Buffer.from(renderLanding(deps, host));
    const headers = [
      "X-Request-Id",
      requestId,
      "Content-Type",
      "text/html; charset=utf-8",
      "Content-Length",
      String(page.length),
      "Cache-Control",
      "no-store",
      "X-Content-Type-Options",
      "nosniff",
      "Content-Security-Policy",
      `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    ];
    await exchange.send(200, headers, exchange.method === "HEAD" ? null : page);
  };
}

/** The whole page. `host` comes from the request. */
export function renderLanding({ cluster, about }: LandingDeps, host: string): string {
  const nodes = cluster.nodes();
  const health = clusterHealth({ nodes, writeNodesMin: cluster.writeNodesMin, processes: cluster.processes() });
  const base = `http://${host}`;
  const lines = [
    `curl -T package.json ${base}/objects/hello/package.json`,
    `curl ${base}/objects/hello/package.json`,
    `curl "${base}/objects/hello/package.json?info"`,
    `curl "${base}/objects/hello/package.json?fields=name,version"`,
    `curl -X PATCH -H "Content-Type: application/merge-patch+json" -d '{"version":"2.0.0"}' ${base}/objects/hello/package.json`,
    `curl "${base}/objects?prefix=hello/"`,
    `curl -X DELETE ${base}/objects/hello/package.json`,
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Kintsugi ${escapeHtml(about.version)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Kintsugi</h1>
<p>An object store that breaks each object into shards on purpose and mends whatever breaks by accident.</p>
<h2>Running here</h2>
<dl>
<dt>Version</dt><dd>${escapeHtml(about.version)}</dd>
<dt>Runtime</dt><dd>${escapeHtml(about.runtime)}</dd>
<dt>State</dt><dd>${health.status}</dd>
<dt>Nodes</dt><dd>${health.nodesLive} of ${health.nodesTotal} live: ${nodes.map(describeNode).join(", ")}</dd>
<dt>Strategies</dt><dd>auto, ${STRATEGIES.join(", ")}</dd>
</dl>
<h2>Try it</h2>
<pre tabindex="0" aria-label="Example commands"><code>${lines.map(escapeHtml).join("\n")}</code></pre>
<h2>Look around</h2>
<ul>
<li><a href="/objects">Objects</a> of the default bucket</li>
<li><a href="/cluster/health">Health</a> and <a href="/cluster/stats">stats</a> of the cluster</li>
<li><a href="/metrics/summary">Figures</a>, also <a href="/metrics/summary?format=csv">as CSV</a> and <a href="/metrics">for Prometheus</a></li>
</ul>
</main>
</body>
</html>
`;
}

function describeNode({ name, state }: NodeInfo): string {
  return state === "live" ? escapeHtml(name) : `${escapeHtml(name)} (${state})`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] as string);
}

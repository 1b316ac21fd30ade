/**
 * A small HTTP server that speaks the store's REST contract from memory and can misbehave in chosen ways, as a store
 * never should. It shows what the CLI does about damage and silence; test/system runs the CLI against the real store.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { collect } from "../../../src/cli/rest-client.ts";

export type Kept = { bytes: Buffer; headers: http.IncomingHttpHeaders; sha256: string | null };
export type Seen = { method: string; target: string; headers: http.IncomingHttpHeaders; bytes: Buffer };
/** Answers a request in place of the server, or leaves it alone by answering false. */
export type Misbehaviour = (request: http.IncomingMessage, response: http.ServerResponse) => boolean;

export type ContractServer = AsyncDisposable & {
  readonly url: string;
  /** By bucket and decoded key. */
  readonly objects: Map<string, Kept>;
  readonly seen: Seen[];
  misbehave: Misbehaviour | null;
  pageEntriesMax: number;
};

export async function startContractServer(): Promise<ContractServer> {
  const server = http.createServer((request, response) => {
    if (store.misbehave?.(request, response) === true) return;
    void answer(store, request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const store: ContractServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects: new Map(),
    seen: [],
    misbehave: null,
    pageEntriesMax: 2,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
  return store;
}

export function problem(response: http.ServerResponse, status: number, code: string, headers: object = {}): true {
  response.writeHead(status, { "content-type": "application/problem+json", ...headers });
  response.end(JSON.stringify({ status, code, title: code, detail: `What happened: ${code}`, requestId: "req-7" }));
  return true;
}

async function answer(
  store: ContractServer,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const bytes = Buffer.from(await collect(request, Infinity));
  const { method = "", url: target = "" } = request;
  store.seen.push({ method, target, headers: request.headers, bytes });
  const [path = "", query = ""] = target.split("?");
  const parameters = new URLSearchParams(query);
  const bucket = parameters.get("bucket") ?? "default";
  if (path === "/cluster/health") return json(response, 200, { status: "ok", nodesLive: 2 });
  if (path === "/cluster/stats") {
    return json(response, 200, {
      objects: store.objects.size,
      nodes: [{ name: "node-1", state: "live", usage: { liveBytes: 2_048 } }],
    });
  }
  if (path === "/objects") return json(response, 200, page(store, bucket, parameters));
  if (!path.startsWith("/objects/")) return void problem(response, 404, "object_not_found");
  const key = decodeURIComponent(path.slice("/objects/".length));
  const id = `${bucket}/${key}`;
  const kept = store.objects.get(id);
  if (method === "PUT") {
    if (request.headers["if-none-match"] === "*" && kept !== undefined)
      return void problem(response, 412, "precondition_failed");
    return keep(store, id, key, bytes, request, response);
  }
  if (kept === undefined) return void problem(response, 404, "object_not_found");
  if (method === "DELETE") {
    store.objects.delete(id);
    return void response.writeHead(204).end();
  }
  if (method === "PATCH") {
    const merged = { ...JSON.parse(kept.bytes.toString()), ...JSON.parse(bytes.toString()) } as object;
    store.objects.set(id, { ...kept, bytes: Buffer.from(JSON.stringify(merged)), sha256: null });
    return json(response, 200, { key, sizeBytes: kept.bytes.length, sha256: null, nodeBytesWritten: 0 });
  }
  if (parameters.has("info"))
    return json(response, 200, { key, sizeBytes: kept.bytes.length, nodes: ["node-1", "node-2"] });
  if (parameters.has("fields")) {
    const document = JSON.parse(kept.bytes.toString()) as Record<string, unknown>;
    const raw = /(?:^|&)fields=([^&]*)/.exec(query)?.[1] ?? "";
    const wanted = raw.split(",").map((part) => [decodeURIComponent(part), document[decodeURIComponent(part)]]);
    return json(response, 200, Object.fromEntries(wanted));
  }
  send(kept, request, response);
}

function keep(
  store: ContractServer,
  id: string,
  key: string,
  bytes: Buffer,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): void {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const created = !store.objects.has(id);
  store.objects.set(id, { bytes, headers: request.headers, sha256 });
  const receipt = { bucket: "default", key, version: "01", etag: "e1", sha256, sizeBytes: bytes.length, created };
  const achieved = { strategy: "ec", nodes: [], blobsDurable: 6, blobsPlanned: 6, tolerance: 2, dirty: false };
  json(response, created ? 201 : 200, { ...receipt, ...achieved, nodeBytesWritten: bytes.length });
}

function send(kept: Kept, request: http.IncomingMessage, response: http.ServerResponse): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  const bytes = range === null ? kept.bytes : kept.bytes.subarray(Number(range[1]), Number(range[2]) + 1);
  response.writeHead(range === null ? 200 : 206, {
    "content-length": bytes.length,
    ...(kept.sha256 === null ? {} : { "x-kintsugi-sha256": kept.sha256 }),
  });
  response.end(bytes);
}

function page(store: ContractServer, bucket: string, parameters: URLSearchParams): object {
  const prefix = parameters.get("prefix") ?? "";
  const delimiter = parameters.get("delimiter");
  const after = parameters.get("after") ?? "";
  const keys = [...store.objects.keys()]
    .filter((id) => id.startsWith(`${bucket}/${prefix}`))
    .map((id) => id.slice(bucket.length + 1))
    .toSorted();
  const names = new Set(
    keys.map((key) => {
      const at = delimiter === null ? -1 : key.indexOf(delimiter, prefix.length);
      return at < 0 ? key : key.slice(0, at + 1);
    }),
  );
  const following = [...names].filter((name) => name > after);
  const shown = following.slice(0, store.pageEntriesMax);
  const isPrefix = (name: string) => delimiter !== null && name.endsWith(delimiter) && !keys.includes(name);
  return {
    objects: shown
      .filter((name) => !isPrefix(name))
      .map((key) => ({
        key,
        sizeBytes: store.objects.get(`${bucket}/${key}`)?.bytes.length ?? 0,
        strategy: "ec",
        modifiedAt: "2026-01-02T03:04:05.000Z",
      })),
    commonPrefixes: shown.filter(isPrefix),
    next: following.length > shown.length ? shown.at(-1) : null,
  };
}

function json(response: http.ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

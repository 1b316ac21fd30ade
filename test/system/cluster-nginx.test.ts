/** A real nginx with the settings of a cluster, in front of two servers that say what reached them. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startGuard } from "../../cluster/guard.ts";
import { nginxConfig } from "../../cluster/nginx.ts";
import { findNginx } from "../../cluster/nginx-server.ts";
import { findFreePorts } from "../../cluster/ports.ts";
import { ClusterProcess } from "../../cluster/process.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { codeOf, openRaw, sendRaw } from "../support/raw-http.ts";

type Seen = { readonly gateway: number; readonly method: string; readonly target: string; readonly bodyBytes: number };

let seen: Seen[] = [];
/** What the gateways do with a request whose body has come. */
let behaviour: "answer" | "die" = "answer";
let url = "";
const end = new AsyncDisposableStack();

beforeAll(async () => {
  const temporary = end.use(await temporaryDirectory());
  const [front, ...gateways] = (await findFreePorts(3)) as [number, number, number];
  for (const [index, port] of gateways.entries()) end.defer(await startGateway(index, port));
  const text = nginxConfig({
    listen: `127.0.0.1:${front}`,
    gateways: gateways.map((port) => `127.0.0.1:${port}`),
    ...{ temporaryDir: "temporary", pidFile: "nginx.pid", workers: 2, resolver: null },
  });
  await mkdir(join(temporary.path, "logs"));
  await writeFile(join(temporary.path, "nginx.conf"), text);
  const guard = startGuard();
  end.defer(() => guard.close());
  url = `http://127.0.0.1:${front}`;
  const nginx = new ClusterProcess(
    {
      ...{ name: "nginx", role: "nginx", url, host: "127.0.0.1", ports: [front], env: process.env },
      command: findNginx(),
      args: ["-p", `${temporary.path}/`, "-c", "nginx.conf", "-e", "stderr"],
      ...{ cwd: temporary.path, dataDir: temporary.path, logFile: join(temporary.path, "logs/nginx.log") },
      readiness: { kind: "port", host: "127.0.0.1", port: front },
      ...{ readyMsMax: 20_000, stopSignal: "SIGQUIT", stopMsMax: 5_000 },
    },
    guard,
  );
  end.defer(() => nginx.kill9());
  await nginx.start();
});

afterAll(() => end.disposeAsync());

beforeEach(() => {
  seen = [];
  behaviour = "answer";
});

async function startGateway(gateway: number, port: number): Promise<() => Promise<void>> {
  const server: Server = createServer((incoming, outgoing) => {
    void (async () => {
      const bodyBytes = await lengthOf(incoming);
      seen.push({ gateway, method: incoming.method ?? "", target: incoming.url ?? "", bodyBytes });
      if (behaviour === "die") incoming.socket.destroy();
      else outgoing.end(incoming.method === "HEAD" ? undefined : JSON.stringify(incoming.headers));
    })();
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return async () => {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
}

async function lengthOf(incoming: IncomingMessage): Promise<number> {
  let bytes = 0;
  for await (const chunk of incoming) bytes += (chunk as Buffer).length;
  return bytes;
}

function request(method: string, target: string, body = "", headers: readonly string[] = []): string {
  const length = body === "" ? [] : [`Content-Length: ${body.length}`];
  return [`${method} ${target} HTTP/1.1`, "Host: store.example", ...length, ...headers, "", body].join("\r\n");
}

describe("nginxConfig()", () => {
  it.each(["GET", "PUT", "PATCH", "POST", "DELETE"])("passes a target through byte for byte, %s", async (method) => {
    const target = "/objects/a//b/../%2e%2e/./%2E/c%2Fd%20+%C3%A9/?fields=a,b&x=%2f&&y=+";
    expect((await sendRaw(url, request(method, target, method === "GET" ? "" : "body"))).status).toBe(200);
    expect(seen).toEqual([
      { gateway: expect.any(Number) as number, method, target, bodyBytes: method === "GET" ? 0 : 4 },
    ]);
  });

  it("passes on headers that nginx would leave out, and tells who the client is", async () => {
    const headers = ["X-Kintsugi-Meta-a_b: 1", "X-Kintsugi-Meta-a.b: 2", "X-Forwarded-For: 10.9.8.7"];
    const answer = await sendRaw(url, request("GET", "/", "", headers));
    expect(JSON.parse(answer.body)).toMatchObject({
      ...{ "x-kintsugi-meta-a_b": "1", "x-kintsugi-meta-a.b": "2", host: "store.example" },
      // A gateway believes the last address alone, which is what nginx saw.
      "x-forwarded-for": "10.9.8.7, 127.0.0.1",
    });
  });

  it("streams a body that is still being sent", async () => {
    using connection = await openRaw(url);
    connection.write("PUT /big HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const chunk = Buffer.alloc(1_048_576, "x");
    for (let index = 0; index < 20; index += 1) {
      connection.write(Buffer.concat([Buffer.from("100000\r\n"), chunk, Buffer.from("\r\n")]));
    }
    connection.write("0\r\n\r\n");
    expect((await connection.next()).status).toBe(200);
    expect(seen).toMatchObject([{ bodyBytes: 20 * chunk.length }]);
  });

  it.each([
    ["PUT", "body"],
    ["DELETE", ""],
    ["PATCH", "body"],
    ["POST", "body"],
  ])("never sends a %s a second time: its gateway may have carried it out before it died", async (method, body) => {
    behaviour = "die";
    const answer = await sendRaw(url, request(method, "/objects/k", body));
    expect(seen.length).toBe(1);
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 503, code: "gateway_unavailable" });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.headers.get("retry-after")).toBe("1");
    expect((JSON.parse(answer.body) as { requestId: string }).requestId).toBe(answer.headers.get("x-request-id"));
  });

  it("asks another gateway where one does not answer a read", async () => {
    behaviour = "die";
    expect((await sendRaw(url, request("GET", "/objects/k"))).status).toBe(503);
    expect(new Set(seen.map(({ gateway }) => gateway)).size).toBe(2);
  });

  it("goes on at once after all gateways have failed for a moment", async () => {
    behaviour = "die";
    for (let index = 0; index < 6; index += 1) await sendRaw(url, request("PUT", "/objects/k", "body"));
    behaviour = "answer";
    expect((await sendRaw(url, request("PUT", "/objects/k", "body"))).status).toBe(200);
  });

  it.each([
    ["a target above the root", request("GET", "/objects/../../x")],
    ["a NUL in the target", request("GET", "/objects/a%00b")],
    ["two lengths", request("PUT", "/objects/k", "body", ["Content-Length: 4"])],
    ["a length and chunks", request("PUT", "/objects/k", "body", ["Transfer-Encoding: chunked"])],
    ["no request", "nonsense\r\n\r\n"],
  ])("refuses %s with a problem document, and no gateway sees it", async (_, bytes) => {
    const answer = await sendRaw(url, bytes);
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 400, code: "request_malformed" });
    expect(seen).toEqual([]);
  });
});

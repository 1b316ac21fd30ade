import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { RestClient } from "../../../src/cli/rest-client.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { startContractServer } from "./contract-server.ts";

/** Long enough for a server on a busy machine to answer within it. */
const PATIENT_MS = 500;

const clientOf = (url: string, idleMs = 20) =>
  new RestClient({ url, clock: systemClock, signal: new AbortController().signal, idleMs });

test("RestClient gives up on a store that does not answer", async () => {
  await using store = await startContractServer();
  store.misbehave = () => true;
  const client = clientOf(store.url);
  await expect(client.request({ method: "GET", target: "/objects" })).rejects.toMatchObject({
    code: "timeout",
    exitCode: 6,
    message: expect.stringContaining("while an answer was due") as string,
  });
  client.close();
});

test("RestClient gives up on an answer that stalls", async () => {
  await using store = await startContractServer();
  store.misbehave = (_, response) => {
    response.writeHead(200, { "content-length": 10 });
    response.write("x");
    return true;
  };
  const client = clientOf(store.url, PATIENT_MS);
  const response = await client.request({ method: "GET", target: "/objects/a" });
  const read = async () => {
    for await (const _ of response.chunks);
  };
  await expect(read()).rejects.toMatchObject({ code: "timeout", exitCode: 6 });
  client.close();
});

test("RestClient gives up on a store that takes no more of a body, without reading the source on", async () => {
  await using store = await startContractServer();
  store.misbehave = (request) => request.pause() !== undefined;
  const client = clientOf(store.url);
  let sentBytes = 0;
  async function* endless() {
    for (;;) {
      sentBytes += 1024 * 1024;
      yield new Uint8Array(1024 * 1024);
    }
  }
  const put = client.request({ method: "PUT", target: "/objects/a", body: { chunks: endless(), sizeBytes: null } });
  await expect(put).rejects.toMatchObject({ code: "timeout" });
  expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
  client.close();
});

test("RestClient waits for its own source as long as that takes", async () => {
  await using store = await startContractServer();
  const client = clientOf(store.url, PATIENT_MS);
  async function* slow() {
    yield Buffer.from("a");
    await systemClock.sleep(2 * PATIENT_MS);
    yield Buffer.from("b");
  }
  await client.requestJson({ method: "PUT", target: "/objects/a", body: { chunks: slow(), sizeBytes: null } });
  expect(store.objects.get("default/a")?.bytes.toString()).toBe("ab");
  client.close();
});

test("RestClient passes on what its source throws, and the store sees no whole body", async () => {
  await using store = await startContractServer();
  const client = clientOf(store.url);
  async function* failing() {
    yield Buffer.from("a");
    throw new Error("disk on fire");
  }
  const put = client.request({ method: "PUT", target: "/objects/a", body: { chunks: failing(), sizeBytes: 2 } });
  await expect(put).rejects.toThrow("disk on fire");
  expect(store.objects.size).toBe(0);
  client.close();
});

test("RestClient uses one connection for requests that follow each other", async () => {
  await using store = await startContractServer();
  const ports = new Set<number | undefined>();
  store.misbehave = (request) => {
    ports.add(request.socket.remotePort);
    return false;
  };
  const client = clientOf(store.url, 10_000);
  for (let n = 0; n < 3; n += 1) await client.requestJson({ method: "GET", target: "/cluster/health" });
  expect(ports.size).toBe(1);
  client.close();
});

test("RestClient calls an answer that is no HTTP, or none, a lost connection or an error, and ends", async () => {
  for (const bytes of ["", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nx"]) {
    const server = net.createServer(
      (socket) => void socket.once("data", () => socket.end(bytes)).on("error", () => {}),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = clientOf(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 10_000);
    await expect(client.requestJson({ method: "GET", target: "/objects" })).rejects.toMatchObject({
      code: "connection_lost",
      exitCode: 6,
    });
    client.close();
    server.close();
  }
});

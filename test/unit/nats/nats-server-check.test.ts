import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Logger } from "../../../src/lib/logger.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import type { NatsLink } from "../../../src/nats/nats-link.ts";
import { requireSafeServers } from "../../../src/nats/nats-server-check.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

const unsafe = expect.objectContaining({ code: "nats_unsafe" });

let safe: NatsCluster;
beforeAll(async () => void (safe = await startNats({ servers: 3 })));
afterAll(() => safe[Symbol.asyncDispose]());

type Recorded = AsyncDisposable & { readonly link: NatsLink; readonly warnings: readonly string[] };

async function openRecorded(nats: NatsCluster, clusterName = "check"): Promise<Recorded> {
  const link = await openTestLink(nats, { clusterName });
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_fields, message) => void warnings.push(message) };
  return { link: { ...link, logger }, warnings, [Symbol.asyncDispose]: () => link.close() };
}

/** A monitoring that answers as the real one does, apart from what `change` makes of `/varz`. */
async function startStub(monitorUrl: string, change: (varz: Record<string, unknown>) => unknown) {
  const answerTo = async (path: string) => {
    const answer = (await (await fetch(new URL(path, monitorUrl))).json()) as Record<string, unknown>;
    return JSON.stringify(path === "/varz" ? change(answer) : answer);
  };
  const server: Server = createServer((request, response) => {
    void answerTo(request.url ?? "/").then((answer) => response.end(answer));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}

describe("requireSafeServers()", () => {
  test("is content with servers that sync always, in silence", async () => {
    await using process = await openRecorded(safe);
    await requireSafeServers(process.link, { monitorUrls: safe.monitorUrls, allowUnsafe: false });
    expect(process.warnings).toEqual([]);
  });

  test("refuses a server with the default sync interval, and says what to set", async () => {
    await using nats = await startNats({ syncInterval: "2m" });
    await using process = await openRecorded(nats);
    const check = (allowUnsafe: boolean) =>
      requireSafeServers(process.link, { monitorUrls: nats.monitorUrls, allowUnsafe });
    await expect(check(false)).rejects.toThrow(unsafe);
    await expect(check(false)).rejects.toThrow(/server nats-1 .*`sync_interval: always`.*--allow-unsafe-nats/s);
    await check(true);
    expect(process.warnings).toEqual([expect.stringMatching(/^ACKNOWLEDGED WRITES MAY BE LOST: .*nats-1/)]);
  });

  test("refuses a server whose monitoring is not reached, and says where it was looked for", async () => {
    await using process = await openRecorded(safe);
    const [first, second] = safe.monitorUrls as [string, string];
    const monitorUrls = [first, second, "http://127.0.0.1:9"];
    const refused = requireSafeServers(process.link, { monitorUrls, allowUnsafe: false, waitMs: 0 });
    await expect(refused).rejects.toThrow(unsafe);
    await expect(refused).rejects.toThrow(
      /server nats-3 .*http:\/\/127\.0\.0\.1:9: .*ECONNREFUSED.*nats\.monitorUrls/s,
    );
    await requireSafeServers(process.link, { monitorUrls, allowUnsafe: true });
    expect(process.warnings).toEqual([expect.stringContaining("nats-3")]);
  });

  test("looks at port 8222 of the servers where no other place is named", async () => {
    await using process = await openRecorded(safe);
    const refused = requireSafeServers(process.link, { monitorUrls: [], allowUnsafe: false, waitMs: 0 });
    await expect(refused).rejects.toThrow(/http:\/\/127\.0\.0\.1:8222/);
  });

  test("refuses an address where no nats-server answers", async () => {
    await using nats = await startNats();
    await using stub = await startStub(nats.monitorUrls[0]!, () => ({ hello: "world" }));
    await using process = await openRecorded(nats);
    const refused = requireSafeServers(process.link, { monitorUrls: [stub.url], allowUnsafe: false, waitMs: 0 });
    await expect(refused).rejects.toThrow(/\/varz is not that of a nats-server/);
  });

  test("refuses an old version, and waits for nothing", async () => {
    await using nats = await startNats();
    await using stub = await startStub(nats.monitorUrls[0]!, (varz) => ({ ...varz, version: "2.11.9" }));
    await using process = await openRecorded(nats);
    const refused = requireSafeServers(process.link, { monitorUrls: [stub.url], allowUnsafe: false });
    await expect(refused).rejects.toThrow(/nats-1 has version 2\.11\.9.*2\.12\.4/);
  });

  test("refuses servers without JetStream, whatever is allowed", async () => {
    await using nats = await startNats();
    await using stub = await startStub(nats.monitorUrls[0]!, (varz) => ({ ...varz, jetstream: {} }));
    await using process = await openRecorded(nats);
    const refused = requireSafeServers(process.link, { monitorUrls: [stub.url], allowUnsafe: true, waitMs: 0 });
    await expect(refused).rejects.toThrow(/JetStream is off on NATS server nats-1/);
    await expect(refused).rejects.not.toThrow("--allow-unsafe-nats");
  });

  test("refuses fewer servers than copies of a stream, whatever is allowed", async () => {
    await using nats = await startNats();
    await using process = await openRecorded(nats);
    const link = { ...process.link, streamReplicas: 3 };
    const refused = requireSafeServers(link, { monitorUrls: nats.monitorUrls, allowUnsafe: true, waitMs: 0 });
    await expect(refused).rejects.toThrow(/1 NATS server .*too few for 3 copies/);
  });

  test("refuses a stream that acknowledges before it stores, unless it is of another cluster", async () => {
    await using nats = await startNats();
    await using process = await openRecorded(nats, "asynchronous");
    const { connection, names } = process.link;
    const manager = await jetstreamManager(connection);
    const subjects = [names.walSubject];
    await manager.streams.add({ name: names.walStream, subjects, num_replicas: 1, persist_mode: "async" });
    const options = { monitorUrls: nats.monitorUrls, allowUnsafe: false };
    await expect(requireSafeServers(process.link, options)).rejects.toThrow(/Stream KINTSUGI_ASYNCHRONOUS_WAL/);
    await using neighbour = await openRecorded(nats, "asynchronous-not");
    await requireSafeServers(neighbour.link, options);
  });

  test("waits for monitoring that is just starting", async () => {
    await using nats = await startNats();
    let asked = 0;
    await using stub = await startStub(nats.monitorUrls[0]!, (varz) => ((asked += 1) < 3 ? {} : varz));
    await using process = await openRecorded(nats);
    await requireSafeServers(process.link, { monitorUrls: [stub.url], allowUnsafe: false });
    expect(asked).toBe(3);
  });

  test("passes over a server that is off: a process must be able to start then", async () => {
    await using nats = await startNats({ servers: 3 });
    await using process = await openRecorded(nats);
    const connected = process.link.connection.getServer();
    // All three know each other before one of them goes.
    await requireSafeServers(process.link, { monitorUrls: nats.monitorUrls, allowUnsafe: false });
    await nats.servers.find(({ url }) => !url.endsWith(connected))!.kill9();
    await requireSafeServers(process.link, { monitorUrls: nats.monitorUrls, allowUnsafe: false });
    expect(process.warnings).toEqual([]);
  });
});

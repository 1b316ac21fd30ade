/** Clients that vanish: nothing of them stays. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { noise } from "../store.ts";
import { receiptOf, responseOf } from "./client.ts";
import { quiet, statsOf, until, type GetServed } from "./served.ts";

const ANNOUNCED_BYTES = 30_000_000;
const SENT = noise(9_000_000, 51);
const OLD = noise(70_000, 52);

export function vanishingChecks(served: GetServed): void {
  describe("clients that vanish", () => {
    test.each([
      ["ec", "content-length"],
      ["ec", "chunked"],
      ["replication", "content-length"],
      ["field_hybrid", "content-length"],
    ])("half way through an upload (%s, %s) leave nothing", async (strategy, framing) => {
      const { client } = served();
      const path = `/objects/vanish/${strategy}-${framing}`;
      const before = await quiet(client);
      const socket = await beginUpload(client.url, `${path}?strategy=${strategy}`, framing === "chunked", strategy);
      await until(
        () => statsOf(client),
        (stats) => stats.inFlightBytes > 0,
      );
      socket.resetAndDestroy();
      const after = await quiet(client);
      expect(after.totals.blobCount).toBe(before.totals.blobCount);
      expect(after.totals.liveBytes).toBe(before.totals.liveBytes);
      expect((await client.get(path)).status).toBe(404);
    });

    test("while overwriting leave the old version", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/vanish/old?strategy=ec", OLD));
      const before = await quiet(client);
      const socket = await beginUpload(client.url, "/objects/vanish/old?strategy=ec", false, "ec");
      await until(
        () => statsOf(client),
        (stats) => stats.inFlightBytes > 0,
      );
      socket.destroy();
      const after = await quiet(client);
      expect(after.totals).toMatchObject({
        blobCount: before.totals.blobCount,
        liveBytes: before.totals.liveBytes,
        objectCount: before.totals.objectCount,
      });
      expect((await client.get("/objects/vanish/old")).body.equals(OLD)).toBe(true);
    });

    test("half way through a download give their memory back", async () => {
      const { client } = served();
      receiptOf(await client.put("/objects/vanish/large?strategy=ec", noise(12_000_000, 53)));
      await quiet(client);
      const outgoing = client.open("GET", "/objects/vanish/large");
      outgoing.end();
      const incoming = await responseOf(outgoing);
      await once(incoming, "readable");
      incoming.destroy();
      await quiet(client);
    });
  });
}

/** Announces more than it sends. Resolves when what it has to send is on its way. */
async function beginUpload(url: URL, target: string, chunked: boolean, strategy: string): Promise<Socket> {
  const socket = connect({ host: url.hostname, port: Number(url.port) });
  socket.on("error", () => {});
  await once(socket, "connect");
  const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${ANNOUNCED_BYTES}`;
  socket.write(`PUT ${target} HTTP/1.1\r\nHost: ${url.host}\r\n${framing}\r\n\r\n`);
  if (chunked) socket.write(`${ANNOUNCED_BYTES.toString(16)}\r\n`);
  if (strategy === "field_hybrid") socket.write('{"device_id":"d","pad":"');
  const bytes = strategy === "field_hybrid" ? Buffer.alloc(SENT.length, "p") : SENT;
  await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
  return socket;
}

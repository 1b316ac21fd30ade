/**
 * The least a server on the same stack can do: swallow a PUT, answer a GET (1 KiB, or `?bytes=`) from memory. What the store
 * does beyond this is its own cost. Prints its address when it is ready.
 */
import { once } from "node:events";
import { serve, type HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { Hono } from "hono";

const SMALL_BYTES_MAX = 64 * 1024;
const CHUNK = Buffer.alloc(1024 * 1024, "k");

const app = new Hono<{ Bindings: HttpBindings }>();

app.put("/objects/*", async (c) => {
  let bytes = 0;
  c.env.incoming.on("data", (chunk: Buffer) => (bytes += chunk.length));
  await once(c.env.incoming, "end");
  return c.json({ bytes }, 201);
});

app.get("/objects/*", async (c) => {
  const bytes = Number(c.req.query("bytes") ?? 1024);
  if (bytes <= SMALL_BYTES_MAX) {
    return c.body(CHUNK.subarray(0, bytes), 200, { "content-type": "application/octet-stream" });
  }
  const { outgoing } = c.env;
  outgoing.writeHead(200, { "content-type": "application/octet-stream", "content-length": bytes });
  for (let sent = 0; sent < bytes; sent += CHUNK.length) {
    if (!outgoing.write(CHUNK.subarray(0, bytes - sent))) await once(outgoing, "drain");
  }
  outgoing.end();
  return RESPONSE_ALREADY_SENT;
});

serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`Bare server at http://127.0.0.1:${port}`);
});

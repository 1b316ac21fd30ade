import { startCluster } from "./support/cluster.ts";
import { connectKintsugi } from "../src/client/client.ts";
import { noise } from "./support/store.ts";
const t0 = performance.now();
await using cl = await startCluster({ gateways: 2, nodes: 6, healers: 1, nats: 3, nginx: false });
console.log("up", performance.now() - t0, Object.keys(cl));
const login = (cl as any).natsLogin;
await using c = await connectKintsugi({ servers: [...cl.natsUrls], user: login?.user, password: login?.pass ?? login?.password });
const abort = new AbortController(); const seen: string[] = [];
const w = (async () => { for await (const e of c.watch({ signal: abort.signal })) seen.push(`${e.op} ${e.key} ${e.revision}`); })();
for (const s of [5, 1024, 100_000, 3_000_000]) { const t = performance.now(); const b = noise(s); const r = await c.put("k" + s, b); const g = await (await c.get("k" + s))!.bytes(); console.log(s, r.strategy, r.nodes.length, Buffer.compare(b, g), (performance.now() - t) | 0); }
await c.put("doc", '{"a":1}'); await c.patch("doc", { a: 2 }); await c.delete("doc");
await new Promise(r => setTimeout(r, 1500)); abort.abort(); await w; console.log(seen);
async function inFlight(n: number, ms: number, work: (i: number) => Promise<unknown>) { let done = 0, i = 0; const end = performance.now() + ms; const t = performance.now(); await Promise.all(Array.from({ length: n }, async () => { while (performance.now() < end) { await work(i++); done++; } })); return Math.round(done / ((performance.now() - t) / 1000)); }
const body = Buffer.alloc(1024, 7);
await inFlight(64, 2000, (i) => c.put("w" + i % 500, body, { strategy: "replication" }));
console.log("put/s", await inFlight(64, 4000, (i) => c.put("w" + i % 500, body, { strategy: "replication" })));
console.log("get/s", await inFlight(64, 4000, async (i) => (await c.get("w" + i % 500))!.bytes()));

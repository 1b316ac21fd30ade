/** Door and client library in one process on any runtime, against the server named as argument. Prints what it saw. */
import { createHash } from "node:crypto";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { connectKintsugi } from "../../src/client/client.ts";
import { EVENT_SUBJECTS, eventSubject } from "../../src/nats/nats-names.ts";
import { createMemoryObjects } from "./memory-objects.ts";
import { startTestDoor } from "./nats-door.ts";
import { noise } from "./store.ts";

const [server = "", stream = ""] = process.argv.slice(2);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const seen: Record<string, unknown> = {};

const door = await startTestDoor([server], createMemoryObjects());
const client = await connectKintsugi({ servers: server });
const key = "Ünïcödé/😀";

for (const size of [0, 1_000, 300_000, 3_000_000]) {
  const bytes = noise(size, size + 1);
  const receipt = await client.put(key, size > 300_000 ? new Blob([new Uint8Array(bytes)]) : bytes, {
    contentType: "a/b",
  });
  const found = await client.get(key);
  const received = (await found?.bytes()) ?? new Uint8Array(0);
  seen[`put and get ${size}`] = [receipt.sha256, found?.info.sha256, sha256(received)].every(
    (hex) => hex === sha256(bytes),
  );
}

const received: Uint8Array[] = [];
for await (const chunk of (await client.get(key))?.body ?? []) received.push(chunk);
seen["web stream"] = sha256(Buffer.concat(received)) === sha256(noise(3_000_000, 3_000_001));

const part = await client.get(key, { range: { first: 1_000_000, last: 1_000_009 } });
seen["range"] = Buffer.from((await part?.bytes()) ?? []).equals(
  noise(3_000_000, 3_000_001).subarray(1_000_000, 1_000_010),
);

await client.put("doc", '{"a":1,"b":2}');
await client.patch("doc", { a: 3 });
seen["fields"] = new TextDecoder().decode((await client.fields("doc", ["a"]))?.bytes);
const keys: string[] = [];
for await (const page of client.list({ pageLimit: 1 })) keys.push(...page.objects.map((entry) => entry.key));
seen["list"] = keys;
seen["head"] = (await client.head(key))?.sizeBytes;
seen["delete"] = [await client.delete("doc"), await client.delete("doc")];
seen["error"] = await client.put(key, "x", { ifNoneMatch: "*" }).catch((cause: { code: string }) => cause.code);

const raw = await connect({ servers: server });
await (await jetstreamManager(raw)).streams.add({ name: stream, subjects: [EVENT_SUBJECTS] });
const event = { op: "put", bucket: "default", key, revision: 1 };
await jetstream(raw).publish(eventSubject("default", "put"), JSON.stringify(event));
for await (const told of client.watch({ from: { sequence: 1 } })) {
  seen["watch"] = [told.key, told.sequence];
  break;
}
await (await jetstreamManager(raw)).streams.delete(stream);

seen["ping"] = (await raw.request("$SRV.PING.kintsugi")).json<{ type: string }>().type;
await raw.close();
await client.close();
await door.close();
process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));

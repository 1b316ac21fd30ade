/** What clients entrust to the store is not for its log: whatever they send and whatever goes wrong. */
import { once } from "node:events";
import { open, readdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { problemOf, receiptOf, StoreClient } from "../support/black-box/client.ts";
import { startServe, type ServedStore } from "../support/serve.ts";

/** One per place where a client may put something private. */
const SECRETS = {
  body: "sesame-body-4711",
  hotValue: "sesame-hot-4711",
  fieldName: "sesame-field-4711",
  metadataValue: "sesame-metadata-4711",
  query: "sesame-query-4711",
  authorization: "sesame-authorization-4711",
  cookie: "sesame-cookie-4711",
  header: "sesame-header-4711",
  key: "sesame-key-4711",
} as const;

const HEADERS = {
  authorization: `Bearer ${SECRETS.authorization}`,
  cookie: `session=${SECRETS.cookie}`,
  "x-api-key": SECRETS.header,
  referer: `http://elsewhere/?token=${SECRETS.header}`,
  "user-agent": `agent ${SECRETS.header}`,
};
const WITH_METADATA = { ...HEADERS, "x-kintsugi-meta-owner": SECRETS.metadataValue };
const DOCUMENT = `{"device_id":"${SECRETS.hotValue}","${SECRETS.fieldName}":"${SECRETS.body}","pad":"${"p".repeat(20_000)}"}`;
const MERGE = { ...HEADERS, "content-type": "application/merge-patch+json" };
/** The used part of a volume of this test; behind it the file is a hole. */
const SCANNED_BYTES = 4 * 1_048_576;
const PATH = `/objects/${SECRETS.key}`;

describe.each([
  ["node", "json"],
  ["node", "text"],
  ["bun", "json"],
  ["deno", "json"],
] as const)("the log on %s as %s", (runtime, format) => {
  test("holds no body, no metadata, no query, no credentials and no key", async () => {
    await using store = await startServe({
      runtime,
      env: {
        KINTSUGI_LOG_LEVEL: "debug",
        KINTSUGI_LOG_FORMAT: format,
        KINTSUGI_HTTP_OBJECT_BYTES_MAX: "10MB",
        KINTSUGI_CACHE_BYTES_MAX: "0",
      },
    });
    using client = new StoreClient(store.url);
    await sendWhatSucceeds(client);
    await sendWhatIsRefused(client);
    await sendWhatIsNoRequest(store.url);
    await breakStoredBytes(store, client);
    expect(await store.stop()).toEqual({ code: 0, signal: null });

    const logs = store.logs();
    for (const [place, secret] of Object.entries(SECRETS)) {
      expect(linesWith(logs, secret), place).toEqual([]);
      expect(linesWith(logs, Buffer.from(secret).toString("base64").slice(0, 20)), `${place} in base64`).toEqual([]);
      expect(linesWith(logs, Buffer.from(secret).toString("hex")), `${place} in hex`).toEqual([]);
    }
    // It is a log all the same: who asked for what, and how it ended.
    expect(logs).toContain("request-of-the-test");
    expect(linesWith(logs, "/objects/:key").length).toBeGreaterThan(10);
    for (const code of ["json_invalid", "digest_mismatch", "parameter_invalid", "object_damaged"]) {
      expect(linesWith(logs, code).length, code).toBeGreaterThan(0);
    }
    if (format === "json") expectJsonLines(logs);
  });
});

async function sendWhatSucceeds(client: StoreClient): Promise<void> {
  const headers = { ...WITH_METADATA, "x-request-id": "request-of-the-test" };
  for (const strategy of ["inline", "replication", "ec", "field_hybrid"]) {
    receiptOf(await client.put(`${PATH}/${strategy}?strategy=${strategy}`, DOCUMENT, headers));
    expect((await client.get(`${PATH}/${strategy}`, HEADERS)).body.toString()).toBe(DOCUMENT);
    expect((await client.get(`${PATH}/${strategy}?fields=${SECRETS.fieldName}`, HEADERS)).status).toBe(200);
    await client.get(`${PATH}/${strategy}?info`, HEADERS);
  }
  receiptOf(await client.patch(`${PATH}/field_hybrid`, `{"device_id":"${SECRETS.hotValue}2"}`, MERGE));
  receiptOf(await client.patch(`${PATH}/field_hybrid`, `{"${SECRETS.fieldName}":"${SECRETS.body}2"}`, MERGE));
  await client.get(`/objects?prefix=${SECRETS.query}&after=${SECRETS.query}`, HEADERS);
  await client.send("POST", `/write?key=${SECRETS.query}`, { body: DOCUMENT, headers: WITH_METADATA });
  await client.get(`/read/${SECRETS.query}`, HEADERS);
  await client.send("DELETE", `/delete/${SECRETS.query}`, { headers: HEADERS });
}

async function sendWhatIsRefused(client: StoreClient): Promise<void> {
  const put = (target: string, body: string | Buffer, headers: Record<string, string> = {}) =>
    client.put(target, body, { ...WITH_METADATA, ...headers });
  const answers = [
    await put(`${PATH}?strategy=field_hybrid`, `{"a":"${SECRETS.body}" ${SECRETS.body}`),
    await put(`${PATH}?strategy=field_hybrid`, `{"device_id":"${SECRETS.hotValue}","device_id":1}`),
    await put(PATH, DOCUMENT, { "x-kintsugi-sha256": "0".repeat(64) }),
    await put(PATH, DOCUMENT, { "x-kintsugi-sha256": SECRETS.header }),
    await put(PATH, DOCUMENT, { "if-match": SECRETS.header }),
    await put(PATH, DOCUMENT, { "if-match": `"${SECRETS.header}"` }),
    await put(`${PATH}?${SECRETS.query}=1`, DOCUMENT),
    await put(`${PATH}?strategy=${SECRETS.query}`, DOCUMENT),
    await put(`${PATH}?bucket=${SECRETS.query}%20`, DOCUMENT),
    await put(`${PATH}%00`, DOCUMENT),
    await put(PATH, Buffer.alloc(11_000_000, SECRETS.body)),
    await put(PATH, DOCUMENT, { "content-encoding": SECRETS.header }),
    await put(PATH, DOCUMENT, { "x-kintsugi-meta-long": SECRETS.metadataValue.repeat(600) }),
    await client.patch(`${PATH}/field_hybrid`, `{"a":${SECRETS.body}}`, MERGE),
    await client.patch(`${PATH}/ec`, "[1]", { ...HEADERS, "content-type": SECRETS.header }),
    await client.get(`${PATH}/absent?fields=${SECRETS.query}`, HEADERS),
    await client.get(`/objects?limit=${SECRETS.query}`, HEADERS),
    await client.get(`/${SECRETS.query}?${SECRETS.query}`, HEADERS),
    await client.send("PUT", `/objects?x=${SECRETS.query}`, { body: SECRETS.body, headers: HEADERS }),
  ];
  for (const { status, body } of answers) expect([400, 404, 405, 412, 413, 415], body.toString()).toContain(status);
}

async function sendWhatIsNoRequest(url: string): Promise<void> {
  const { hostname, port } = new URL(url);
  for (const bytes of [
    `GET ${PATH} HTTP/1.1\r\nHost: a\r\nHost: ${SECRETS.header}\r\n\r\n`,
    `${SECRETS.body} ${SECRETS.query}\r\n\r\n`,
    `GET /?${SECRETS.query} HTTP/9.9\r\n\r\n`,
    `GET /${SECRETS.key} HTTP/1.1\r\nHost: a\r\n${SECRETS.header}\r\n\r\n`,
    `PUT ${PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ${SECRETS.header}\r\n\r\n`,
    `PUT ${PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n${SECRETS.body}`,
  ]) {
    const socket = connect(Number(port), hostname);
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.resume().end(bytes);
    await once(socket, "close");
  }
}

/** More than the code can mend: the failure is told with its reason, which must not be the content. */
async function breakStoredBytes(store: ServedStore, client: StoreClient): Promise<void> {
  receiptOf(await client.put(`${PATH}/broken?strategy=ec&consistency=all`, DOCUMENT, WITH_METADATA));
  for (let number = 1; number <= 6; number += 1) {
    const volumes = join(store.dataDir, "nodes", `node-${number}`, "volumes");
    for (const name of await readdir(volumes)) await flipStoredPages(join(volumes, name, "data.mdb"));
  }
  const answer = await client.get(`${PATH}/broken`, HEADERS);
  expect([answer.status, problemOf(answer).code]).toEqual([500, "object_damaged"]);
  for (const secret of Object.values(SECRETS)) expect(answer.body.toString()).not.toContain(secret);
}

/** Flips bits wherever the padding of the document lies: payload alone, not LMDB's own pages. */
async function flipStoredPages(file: string): Promise<void> {
  const handle = await open(file, "r+");
  try {
    const bytes = Buffer.alloc(SCANNED_BYTES);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    const padding = Buffer.alloc(64, "p");
    for (let at = bytes.indexOf(padding); at !== -1 && at < bytesRead; at = bytes.indexOf(padding, at + 64)) {
      await handle.write(Buffer.from([0]), 0, 1, at + 32);
    }
  } finally {
    await handle.close();
  }
}

function linesWith(logs: string, text: string): string[] {
  return logs.split("\n").filter((line) => line.includes(text));
}

function expectJsonLines(logs: string): void {
  const lines = logs.split("\n").filter((line) => line.startsWith("{"));
  for (const line of lines) expect(() => JSON.parse(line) as unknown, line).not.toThrow();
}

/** Who may talk to a node, and that nothing on the way can be changed, repeated or made up. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeBatchResults, encodeBatch } from "../../src/blob/wire-batch.ts";
import { decodeWireError } from "../../src/blob/wire-error.ts";
import { FrameSealer } from "../../src/blob/wire-frame.ts";
import { WIRE_LIMITS } from "../../src/blob/wire-limits.ts";
import * as messages from "../../src/blob/wire-messages.ts";
import { ClusterProof } from "../../src/blob/node-proof.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { listIds, nextBlobId, smallBlob, soon, TEST_NODE } from "../support/blobs.ts";
import { connectTo, serveStore, startServedNode, TEST_SECRET, type ServedNode } from "../support/node-plane.ts";
import { codeOf, openRaw, sendRaw } from "../support/raw-http.ts";
import { headOf, openRawSession, sayHello } from "../support/raw-plane.ts";

let node: ServedNode;
beforeAll(async () => {
  node = await startServedNode();
});
afterAll(async () => {
  expect(node.plane.bugs).toEqual([]);
  await node[Symbol.asyncDispose]();
});

const { batch, session: sessionPath } = messages.WIRE_PATHS;
const putOf = (id = nextBlobId()) => ({
  id,
  payload: encodeBatch([{ op: "put", waitMs: 5_000, blob: smallBlob(id, 10) }]),
});
const isStored = async (id: ReturnType<typeof nextBlobId>) => (await node.local.describe(id, soon())) !== null;

describe("a node and its clients", () => {
  test("a client with another secret is refused, and told so", async () => {
    await using stranger = connectTo(() => node.plane.url, { clusterSecret: "another secret" });
    const id = nextBlobId();
    const error = await stranger.put(smallBlob(id, 5), soon()).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "node_refused", retriable: false });
    expect(String(error)).toMatch(/does not prove the secret of this node's cluster/);
    expect(String(error)).not.toContain("another secret");
    await expect(stranger.openWriter(id, 1_000)).rejects.toMatchObject({ code: "node_refused" });
    await expect(stranger.usage()).rejects.toMatchObject({ code: "node_refused" });
    expect(stranger.state()).toBe("down");
    expect(await isStored(id)).toBe(false);
  });

  test("a client that means another node is refused", async () => {
    await using lost = connectTo(() => node.plane.url, { node: "n2" as NodeName });
    const error = await lost.usage().catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "node_refused" });
    expect(String(error)).toContain("This is node n1");
  });

  test("a client refuses a node that does not know the secret", async () => {
    await using impostor = await serveStore(node.local, { clusterSecret: "a third secret" });
    // It answers handshakes as if they were proved: it cannot make the proof of its answer.
    const hello = new ClusterProof(TEST_SECRET).sealHello({
      clientNonce: systemRandom.bytes(32),
      node: TEST_NODE,
      macs: ["gmac"],
    });
    const theirs = new ClusterProof("a third secret");
    const answer = { sessionId: systemRandom.bytes(16), nodeNonce: systemRandom.bytes(32), mac: "gmac" as const };
    expect(new ClusterProof(TEST_SECRET).openHelloAnswer(hello, theirs.sealHelloAnswer(hello, answer))).toBeNull();
    expect((await sayHello(impostor.url, hello)).status).toBe(403);
  });

  test("requests without a proof are refused before their body is read", async () => {
    for (const path of Object.values(messages.WIRE_PATHS)) {
      if (path === sessionPath) continue;
      using connection = await openRaw(node.plane.url);
      // Nothing of the announced body is sent: whoever waits for it never answers.
      connection.write(headOf(path, ["Content-Length: 1000000"]));
      const answer = await connection.next();
      expect([path, answer.status, codeOf(answer)]).toEqual([path, 403, "node_refused"]);
    }
    const get = await sendRaw(node.plane.url, `GET ${batch} HTTP/1.1\r\nHost: n\r\n\r\n`);
    expect(get.status).toBe(405);
  });

  test("a captured request is not done a second time, in this session or another", async () => {
    const session = await openRawSession(node.plane.url);
    const { id, payload } = putOf();
    const captured = session.request(batch, payload);
    const first = await sendRaw(node.plane.url, captured);
    expect(decodeBatchResults(session.framesOf(first, 0)[0]?.payload as Buffer)).toMatchObject([
      { result: { outcome: "put" } },
    ]);
    await node.local.delete([id], soon());
    expect((await sendRaw(node.plane.url, captured)).status).toBe(401);
    expect(await isStored(id)).toBe(false);
    const other = await openRawSession(node.plane.url);
    const moved = Buffer.from(captured.toString("latin1").replace(session.id, other.id), "latin1");
    expect((await sendRaw(node.plane.url, moved)).status).toBe(403);
    expect(await isStored(id)).toBe(false);
  });

  test("requests of one session may overtake each other", async () => {
    const session = await openRawSession(node.plane.url);
    for (const counter of [5, 3, 4, 0, 70_000, 69_000]) {
      const answer = await sendRaw(
        node.plane.url,
        session.request(messages.WIRE_PATHS.stats, Buffer.alloc(0), counter),
      );
      expect([counter, answer.status]).toEqual([counter, 200]);
      session.framesOf(answer, counter);
    }
    const late = session.request(messages.WIRE_PATHS.stats, Buffer.alloc(0), 1);
    expect((await sendRaw(node.plane.url, late)).status, "behind the window").toBe(401);
  });

  test("a changed head or body is refused and nothing is stored", async () => {
    const { id, payload } = putOf();
    const session = await openRawSession(node.plane.url);
    const change = (text: string, by: (bytes: Buffer) => void) => {
      const bytes = session.request(batch, payload);
      by(bytes);
      return { text, bytes };
    };
    const flip = (bytes: Buffer, at: number) => bytes.set([(bytes[at] as number) ^ 1], at);
    const bodyAt = (bytes: Buffer) => bytes.indexOf("\r\n\r\n") + 4;
    const changed = [
      change("last byte of the payload", (bytes) => flip(bytes, bytes.length - 1)),
      change("length in the payload", (bytes) => flip(bytes, bodyAt(bytes) + 24)),
      change("tag of the frame", (bytes) => flip(bytes, bodyAt(bytes) + 10)),
      change("kind of the frame", (bytes) => bytes.set([5], bodyAt(bytes) + 1)),
      change("tag of the head", (bytes) => flip(bytes, bytes.indexOf("Content-Length") - 5)),
    ];
    for (const { text, bytes } of changed) {
      expect([text, (await sendRaw(node.plane.url, bytes)).status]).toEqual([text, 403]);
      expect(await isStored(id)).toBe(false);
    }
    // Another target under the same proof.
    const moved = session.request(batch, payload).toString("latin1").replace(batch, messages.WIRE_PATHS.list);
    expect((await sendRaw(node.plane.url, Buffer.from(moved, "latin1"))).status).toBe(403);
    // The unchanged request is sound.
    expect((await sendRaw(node.plane.url, session.request(batch, payload))).status).toBe(200);
    expect(await isStored(id)).toBe(true);
  });

  test("a changed answer is refused by the client", async () => {
    const session = await openRawSession(node.plane.url);
    const answer = await sendRaw(node.plane.url, session.request(messages.WIRE_PATHS.stats, Buffer.alloc(0)));
    const body = Buffer.from(answer.body, "latin1");
    body.set([(body.at(-1) as number) ^ 1], body.length - 1);
    expect(() => session.framesOf({ ...answer, body: body.toString("latin1") }, 0)).toThrowError(/changed/);
    expect(() => session.framesOf(answer, 1), "as the answer to another request").toThrowError(/changed/);
  });

  test("a restarted node's clients make new sessions without noticing", async () => {
    let url = node.plane.url;
    await using client = connectTo(() => url);
    const ids = [nextBlobId(), nextBlobId(), nextBlobId()];
    await client.put(smallBlob(ids[0] as (typeof ids)[0], 5), soon());
    await using second = await serveStore(node.local);
    url = second.url;
    await Promise.all(ids.map((id) => client.put(smallBlob(id, 5), soon())));
    const writer = await client.openWriter(nextBlobId(), 5_000);
    await using third = await serveStore(node.local);
    url = third.url;
    const other = await client.openWriter(nextBlobId(), 5_000);
    await Promise.all([writer.abort(), other.abort()]);
    for (const id of ids) expect(await isStored(id)).toBe(true);
  });

  test("handshakes that nobody goes on with do not push out those who work", async () => {
    const session = await openRawSession(node.plane.url);
    expect((await sendRaw(node.plane.url, session.request(messages.WIRE_PATHS.stats, Buffer.alloc(0)))).status).toBe(
      200,
    );
    const hello = new ClusterProof(TEST_SECRET).sealHello({
      clientNonce: systemRandom.bytes(32),
      node: TEST_NODE,
      macs: ["gmac"],
    });
    for (let n = 0; n < 300; n += 1) await sayHello(node.plane.url, hello);
    expect((await sendRaw(node.plane.url, session.request(messages.WIRE_PATHS.stats, Buffer.alloc(0)))).status).toBe(
      200,
    );
  });
});

describe("malformed requests", () => {
  test("bodies of any bytes under a right proof are refused and store nothing", async () => {
    const before = await listIds(node.local);
    const session = await openRawSession(node.plane.url);
    const paths = Object.values(messages.WIRE_PATHS).filter((path) => path !== messages.WIRE_PATHS.write);
    const { payload } = putOf();
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => ({ framed: true, bytes })),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => ({ framed: false, bytes })),
      fc.tuple(fc.nat(payload.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, by]) => {
        const bytes = Buffer.from(payload);
        // What remains right stores the blob under another id, or with other bytes: only a broken form is wanted here.
        if (at >= 7 && at < 60) return { framed: true, bytes: bytes.subarray(0, at) };
        bytes[at] = (bytes[at] as number) ^ by;
        return { framed: false, bytes };
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), body, async (path, { framed, bytes }) => {
        const counter = session.takeCounter();
        const request = framed ? session.request(path, bytes, counter) : session.requestOf(path, bytes, counter);
        const answer = await sendRaw(node.plane.url, request);
        if (answer.status !== 200) {
          expect([400, 403, 411, 413]).toContain(answer.status);
          return;
        }
        // Under a right tag the node answers under its own: mostly that it cannot read it.
        const [frame] = session.framesOf(answer, counter);
        if (frame?.kind === "error") expect(decodeWireError(frame.payload as Buffer).code).toBe("format_unknown");
      }),
      { numRuns: 150 },
    );
    expect(await listIds(node.local)).toEqual(before);
    expect(node.plane.bugs).toEqual([]);
  });

  test("what is larger than any request may be is refused before it is read", async () => {
    const session = await openRawSession(node.plane.url);
    for (const [path, bytes] of [
      [batch, WIRE_LIMITS.batchRequestBytesMax + 1],
      [messages.WIRE_PATHS.read, WIRE_LIMITS.requestBytesMax + 1],
    ] as const) {
      using connection = await openRaw(node.plane.url);
      const request = session.requestOf(path, Buffer.alloc(bytes));
      connection.write(request.subarray(0, request.indexOf("\r\n\r\n") + 4));
      expect((await connection.next()).status).toBe(413);
    }
  });

  test("items that no store could take are refused as a whole", async () => {
    const session = await openRawSession(node.plane.url);
    const id = nextBlobId();
    const tooLarge = encodeBatch([{ op: "put", waitMs: 10, blob: smallBlob(id, 40_000, 40_000) }]);
    const tooLong = encodeBatch([{ op: "put", waitMs: 2 ** 31, blob: smallBlob(id, 4) }]);
    for (const payload of [tooLarge, tooLong]) {
      const counter = session.takeCounter();
      const answer = await sendRaw(node.plane.url, session.request(batch, payload, counter));
      const [frame] = session.framesOf(answer, counter);
      expect(decodeWireError(frame?.payload as Buffer).code).toBe("format_unknown");
    }
    expect(await isStored(id)).toBe(false);
  });

  test("a writer that breaks the rules stores nothing and frees its blob", async () => {
    const session = await openRawSession(node.plane.url);
    const { writeTarget, encodeCellMeta } = messages;
    type Seal = (kind: Parameters<FrameSealer["seal"]>[0], meta: Buffer, payload: Buffer) => Buffer;
    const none = Buffer.alloc(0);
    const bodies: Record<string, (seal: Seal) => Buffer[]> = {
      "a cell out of order": (seal) => [
        seal("cell", encodeCellMeta(1, 0n), Buffer.from("x")),
        seal("seal", none, Buffer.from("d")),
      ],
      "a cell without bytes": (seal) => [seal("cell", encodeCellMeta(0, 0n), none)],
      "a cell without an index": (seal) => [seal("cell", none, Buffer.from("x"))],
      "no end": (seal) => [seal("cell", encodeCellMeta(0, 0n), Buffer.from("x"))],
      "something behind the seal": (seal) => [seal("seal", none, Buffer.from("d")), seal("alive", none, none)],
      "a frame that only answers have": (seal) => [seal("answer", none, none)],
      "half a frame": (seal) => [seal("seal", none, Buffer.from("descriptor")).subarray(0, 30)],
      "a cell of too many bytes": (seal) => [seal("cell", encodeCellMeta(0, 0n), Buffer.alloc(2 ** 20 + 1))],
    };
    for (const [what, makeBody] of Object.entries(bodies)) {
      const id = nextBlobId();
      const counter = session.takeCounter();
      const sealer = new FrameSealer(session.keys.toNode, counter);
      const body = makeBody((kind, meta, payload) => Buffer.concat([sealer.seal(kind, meta, payload), payload]));
      const request = session.requestOf(writeTarget(id, 5_000), Buffer.concat(body), counter);
      expect([what, (await sendRaw(node.plane.url, request)).status]).toEqual([what, 400]);
      expect(await isStored(id)).toBe(false);
      // Nobody is at it any more.
      await (await node.local.openWriter(id, 5_000)).abort();
    }
    const target = session.request("/v1/write?id=no-blob&waitMs=1", none);
    expect((await sendRaw(node.plane.url, target)).status).toBe(200);
  });
});

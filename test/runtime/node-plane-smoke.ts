/**
 * Serves a node over HTTP and talks to it, without a test runner, so that every runtime can run it:
 * `node test/runtime/node-plane-smoke.ts`, `bun …`, `deno run -A …`. With a folder behind it, it only serves that, tells
 * its address, and goes on until killed; with an address, it only talks: so that different runtimes can talk to each other.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { assert } from "../../src/lib/assert.ts";
import { openLmdbBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import {
  cellBytes,
  descriptorOf,
  FULL_CELL_BYTES,
  listIds,
  nextBlobId,
  readWhole,
  smallBlob,
  soon,
  TEST_NODE,
  WAIT_MS,
  writeLarge,
} from "../support/blobs.ts";
import { connectTo, serveStore } from "../support/node-plane.ts";

const argument = process.argv[2];
if (argument === undefined) await serveAndTalk();
else if (argument.startsWith("http:")) await talkTo(argument);
else process.stdout.write(`${(await serve(argument)).url}\n`);

async function serveAndTalk(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "kintsugi-smoke-"));
  try {
    await talkTo((await serve(dir)).url);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function serve(dir: string) {
  const store = await openLmdbBlobStore({
    ...{ node: TEST_NODE, dir, clock: systemClock, logger: silentLogger },
    settings: { volumeBytesMax: 64 * MIB, freeBytesMin: 0 },
  });
  return await serveStore(store);
}

async function talkTo(url: string): Promise<void> {
  const client = connectTo(() => url);
  const stranger = connectTo(() => url, { clusterSecret: "another" });
  assert((await codeOf(stranger.usage())) === "node_refused", "a stranger is refused");
  await checkSmall(client);
  await checkShared(client);
  await checkAborts(client);
  await client.close();
  process.stdout.write("ok\n");
  process.exit(0);
}

type Client = ReturnType<typeof connectTo>;

async function checkSmall(client: Client): Promise<void> {
  const ids = Array.from({ length: 300 }, () => nextBlobId());
  await Promise.all(ids.map((id, n) => client.put(smallBlob(id, n * 20, 5), soon())));
  const large = nextBlobId();
  await writeLarge(client, large, [...Array(9).fill(FULL_CELL_BYTES), 77]);
  assert((await listIds(client, 100)).length === 301, "the list has what was sealed");
  await Promise.all(ids.map((id) => readWhole(client, id)));
  assert((await readWhole(client, large)) === 10, "large blobs come back");
  assert((await client.verify(large, soon())).length === 0, "a whole blob verifies");
  assert((await client.delete([large, ...ids], soon())) === 301, "deletes are counted");
  assert((await codeOf(client.readCells(large, 0, 1, soon()))) === "blob_not_found", "deleted blobs are gone");
  assert((await client.usage()).blobCount === 0, "the counters are right");
}

/** The paths of the object store send from and receive into memory that threads share. */
async function checkShared(client: Client): Promise<void> {
  const id = nextBlobId();
  const writer = await client.openWriter(id, WAIT_MS);
  const shared = new Uint8Array(new SharedArrayBuffer(2 * MIB));
  for (const index of [0, 1, 2, 3]) {
    const payload = shared.subarray(64, 64 + FULL_CELL_BYTES);
    payload.set(cellBytes(id, index, FULL_CELL_BYTES));
    await writer.writeCell(index, payload, cellChecksum(payload, id, index));
  }
  await writer.seal(descriptorOf(id));
  for (const index of [0, 1, 2, 3]) {
    const [cell] = await client.readCells(id, index, 1, soon(), shared.subarray(99));
    assert(cell?.payload.buffer === shared.buffer, "cells are where they were wanted");
    assert(cellChecksum(cell.payload, id, index) === cell.checksum, "and whole");
  }
  const small = nextBlobId();
  const payload = shared.subarray(0, 900);
  const checksum = cellChecksum(payload, small, 0);
  await client.put({ id: small, descriptor: descriptorOf(small), cells: [{ payload, checksum }] }, soon());
  assert((await client.verify(small, soon())).length === 0, "small blobs are taken from shared memory");
  assert((await client.delete([id, small], soon())) === 2, "both were there");
}

async function checkAborts(client: Client): Promise<void> {
  const id = nextBlobId();
  const writer = await client.openWriter(id, WAIT_MS);
  const payload = cellBytes(id, 0, FULL_CELL_BYTES);
  await writer.writeCell(0, payload, cellChecksum(payload, id, 0));
  assert((await codeOf(client.openWriter(id, WAIT_MS))) === "write_conflict", "one writer at a time");
  await writer.abort();
  await writeLarge(client, id, [100_000]);
  const gone = client.readCells(id, 0, 2, soon(), new Uint8Array(200_000), AbortSignal.abort());
  assert((await codeOf(gone)) === "deadline_exceeded", "an aborted read ends");
  assert((await readWhole(client, id)) === 1, "what was written after an abort is there");
  assert((await client.delete([id], soon())) === 1, "and can be deleted");
}

function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (cause: { code?: string }) => cause.code ?? String(cause),
  );
}

/**
 * Exercises the LMDB blobs without a test runner, so that every runtime can run it:
 * `node test/runtime/blob-smoke.ts`, `bun test/runtime/blob-smoke.ts`, `deno run -A test/runtime/blob-smoke.ts`.
 * Exits with 0 when all went well, else the error is thrown.
 */
import { mkdtemp, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { openLmdbBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import type { NodeState } from "../../src/domain/node-info.ts";
import { assert } from "../../src/lib/assert.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { lockDataDir } from "../../src/lib/dir-lock.ts";
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

const dir = await mkdtemp(join(tmpdir(), "kintsugi-smoke-"));
let fences = 0;
const open = () =>
  openLmdbBlobStore({
    node: TEST_NODE,
    dir: join(dir, "nodes", TEST_NODE),
    clock: systemClock,
    logger: silentLogger,
    settings: { volumeBytesMax: 16 * MIB, freeBytesMin: 0 },
    onFenced: () => (fences += 1),
  });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => "ok",
    (cause: { code?: string }) => cause.code ?? String(cause),
  );

try {
  const lock = await lockDataDir(dir);
  assert(lock !== null, "the folder is free");
  assert((await lockDataDir(dir)) === null, "a locked folder is refused");
  await checkBlobs();
  await checkSharedMemory();
  await checkDamage();
  await checkFence();
  await lock.release();
  process.stdout.write("ok\n");
} finally {
  await rm(dir, { recursive: true, force: true });
}
// What the fenced node left open would keep some runtimes alive.
process.exit(0);

async function checkBlobs(): Promise<void> {
  let store = await open();
  const small = Array.from({ length: 300 }, () => nextBlobId());
  await Promise.all(small.map((id, n) => store.put(smallBlob(id, n * 20, 5), soon())));
  const large = nextBlobId();
  await writeLarge(store, large, [...Array(20).fill(FULL_CELL_BYTES), 77]);
  await store.openWriter(nextBlobId(), WAIT_MS).then((writer) => writer.writeCell(0, Buffer.alloc(99_000), 0n));
  await store.close();
  store = await open();
  assert((await listIds(store, 100)).join() === [...small, large].sort().join(), "the list has what was sealed");
  for (const id of small) assert((await readWhole(store, id)) === 2, "small blobs come back");
  assert((await readWhole(store, large)) === 21, "large blobs come back");
  assert((await store.verify(large, soon())).length === 0, "a whole blob verifies");
  assert((await store.delete([large, ...small.slice(1)], soon())) === 300, "deletes are counted");
  assert((await codeOf(store.readCells(large, 0, 1, soon()))) === "blob_not_found", "deleted blobs are gone");
  assert((await store.usage()).blobCount === 1, "the counters are right");
  await store.close();
}

/** The paths of the object store write from and read into memory that threads share. */
async function checkSharedMemory(): Promise<void> {
  const store = await open();
  const id = nextBlobId();
  const writer = await store.openWriter(id, WAIT_MS);
  const shared = new Uint8Array(new SharedArrayBuffer(1 * MIB));
  for (const index of [0, 1]) {
    const payload = shared.subarray(64, 64 + 500_000);
    payload.set(cellBytes(id, index, 500_000));
    await writer.writeCell(index, payload, cellChecksum(payload, id, index));
  }
  await writer.seal(descriptorOf(id));
  shared.fill(0);
  const cells = await store.readCells(id, 0, 2, soon(), shared);
  for (const { index, payload } of cells) {
    assert(Buffer.compare(payload, cellBytes(id, index, 500_000)) === 0, "bytes pass through shared memory");
  }
  const small = nextBlobId();
  const payload = shared.subarray(0, 900);
  await store.put(
    { id: small, descriptor: descriptorOf(small), cells: [{ payload, checksum: cellChecksum(payload, small, 0) }] },
    soon(),
  );
  assert((await store.verify(small, soon())).length === 0, "small blobs are taken from shared memory");
  await store.close();
}

async function checkDamage(): Promise<void> {
  await truncate(join(dir, "nodes", TEST_NODE, "volumes", "000001", "data.mdb"), 0);
  const store = await open();
  assert((await store.usage()).quarantinedCount === 1, "a truncated volume is set aside");
  await store.close();
}

async function checkFence(): Promise<void> {
  const store = await open();
  await store.put(smallBlob(nextBlobId(), 5), soon());
  await rm(join(dir, "nodes", TEST_NODE, "volumes"), { recursive: true });
  const code = await codeOf(store.put(smallBlob(nextBlobId(), 5), soon()));
  assert(code === "node_fenced" && fences === 1, "a write into a deleted folder fences the node");
  assert(stateOf(store) === "fenced", "a fenced node says so");
  await store.close();
}

function stateOf(store: BlobStore): NodeState {
  return store.state();
}

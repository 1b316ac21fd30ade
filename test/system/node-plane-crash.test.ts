import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { isStoreError } from "../../src/domain/errors.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import { cellBytes, descriptorOf, listIds, nextBlobId, readWhole, smallBlob, soon, WAIT_MS } from "../support/blobs.ts";
import { startChild } from "../support/child-process.ts";
import { connectTo } from "../support/node-plane.ts";
import { runtimeArgs, runtimeBinary } from "../support/runtimes.ts";

const CHILD = join(import.meta.dirname, "../support/node-child.ts");

test(
  "a node that is killed while it receives keeps what it sealed and nothing else",
  { timeout: 120_000 },
  async () => {
    const dir = await mkdtemp(join(tmpdir(), "kintsugi-node-crash-"));
    const start = async () => {
      const child = startChild(runtimeBinary("node"), [...runtimeArgs("node"), CHILD, dir]);
      await child.linesReach(1);
      return child;
    };
    let child = await start();
    await using client = connectTo(() => `http://127.0.0.1:${child.lines[0]}`);
    try {
      const durable = new Set<BlobId>();
      const unknown = new Set<BlobId>();
      for (let round = 0; round < 3; round += 1) {
        await writeUntilKilled(client, durable, unknown, () => child.kill());
        expect(client.state()).toBe("down");
        child = await start();
        const stored = new Set(await listIds(client));
        for (const id of durable) expect(stored, `${id} was acknowledged`).toContain(id);
        for (const id of stored) expect(durable.has(id) || unknown.has(id), `${id} was never sealed`).toBe(true);
        for (const id of stored) {
          await readWhole(client, id);
          expect(await client.verify(id, soon())).toEqual([]);
        }
        expect(client.state()).toBe("live");
      }
      expect(durable.size).toBeGreaterThan(10);
    } finally {
      await child.kill();
      await rm(dir, { recursive: true, force: true });
    }
  },
);

type Client = ReturnType<typeof connectTo>;

/** Writes small and large blobs side by side; kills the node in the middle of it all, and returns when all have failed. */
async function writeUntilKilled(
  client: Client,
  durable: Set<BlobId>,
  unknown: Set<BlobId>,
  kill: () => Promise<void>,
): Promise<void> {
  const until = durable.size + 60;
  let killing: Promise<void> | null = null;
  /** Writes with `write` until that fails; what was begun to be sealed then is in doubt. */
  const loop = async (write: (id: BlobId, onSeal: () => void) => Promise<void>) => {
    for (;;) {
      const id = nextBlobId();
      let begun = false;
      try {
        await write(id, () => (begun = true));
        durable.add(id);
        if (durable.size >= until) killing ??= kill();
      } catch (cause) {
        if (!isStoreError(cause)) throw cause;
        // What cannot have happened must not be told as if it could, nor the other way round.
        if (cause.code === "deadline_exceeded") unknown.add(id);
        expect(begun || cause.code === "node_unavailable").toBe(true);
        return;
      }
    }
  };
  const small = (id: BlobId, onSeal: () => void) => {
    onSeal();
    return client.put(smallBlob(id, 3_000), soon());
  };
  const large = async (id: BlobId, onSeal: () => void) => {
    const writer = await client.openWriter(id, WAIT_MS);
    for (const index of [0, 1, 2]) {
      const payload = cellBytes(id, index, 200_000);
      await writer.writeCell(index, payload, cellChecksum(payload, id, index));
    }
    onSeal();
    await writer.seal(descriptorOf(id));
  };
  await Promise.all([...Array.from({ length: 6 }, () => loop(small)), ...Array.from({ length: 4 }, () => loop(large))]);
  await killing;
}

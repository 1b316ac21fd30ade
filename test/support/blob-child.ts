/** A process with a node of its own, for tests that kill it or take its disk away. Usage: blob-child.ts MODE DIR */
import { openLmdbBlobStore } from "../../src/blob/lmdb-blob-store.ts";
import { cellChecksum } from "../../src/domain/checksum.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { nextTurn } from "../../src/lib/next-turn.ts";
import type { BlobId } from "../../src/domain/ids.ts";
import {
  COMPACT_ALL,
  cellBytes,
  descriptorOf,
  nextBlobId,
  smallBlob,
  soon,
  TEST_NODE,
  WAIT_MS,
  writeLarge,
} from "./blobs.ts";

const [mode, dir] = process.argv.slice(2) as [string, string];
// A write behind the limit set by `ulimit -f` shall be an error, as on a broken disk, and not end the process.
process.on("SIGXFSZ", () => {});

let fenceCount = 0;
const store = await openLmdbBlobStore({
  node: TEST_NODE,
  dir,
  clock: systemClock,
  logger: silentLogger,
  settings: { volumeBytesMax: 16 * MIB, freeBytesMin: 0 },
  onFenced: () => (fenceCount += 1),
});
const say = (line: string) => process.stdout.write(`${line}\n`);
const modes: Record<string, () => Promise<void>> = {
  /** Tells each id once its put has resolved, forever. */
  async "put-small"() {
    const client = async () => {
      for (;;) {
        const id = nextBlobId();
        await store.put(smallBlob(id, 1_500), soon());
        say(id);
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
  },
  /** Tells each id once its seal has resolved, forever. */
  async "write-large"() {
    for (;;) {
      const id = nextBlobId();
      const writer = await store.openWriter(id, WAIT_MS);
      for (const index of [0, 1, 2, 3]) {
        const payload = cellBytes(id, index, 150_000);
        await writer.writeCell(index, payload, cellChecksum(payload, id, index));
        if (index === 1) say(`begun ${id}`);
      }
      await writer.seal(descriptorOf(id));
      say(id);
    }
  },
  /** Empties volumes without end, and tells what it stores, begins to delete and has deleted meanwhile. */
  async compact() {
    const present: BlobId[] = [];
    const client = async (write: (id: BlobId) => Promise<void>) => {
      for (let n = 0; ; n += 1) {
        const id = nextBlobId();
        await write(id);
        say(`put ${id}`);
        present.push(id);
        const doomed = n % 3 === 2 ? undefined : present.splice(n % present.length, 1)[0];
        if (doomed === undefined) continue;
        say(`deleting ${doomed}`);
        await store.delete([doomed], soon());
        say(`deleted ${doomed}`);
      }
    };
    const compact = async () => {
      for (;;) {
        const { state } = await store.compaction.step(COMPACT_ALL);
        if (state === "given_back") say("given back");
      }
    };
    const small = (id: BlobId) => store.put(smallBlob(id, 9_000), soon());
    const large = (id: BlobId) => writeLarge(store, id, [400_000, 400_000, 300_000]);
    await Promise.all([client(small), client(small), client(large), client(large), compact()]);
  },
  /** Writes until the disk fails and tells what became of the node. */
  async "until-failure"() {
    const codeOf = (work: Promise<unknown>) =>
      work.then(
        () => "ok",
        (cause: { code?: string }) => cause.code ?? String(cause),
      );
    const client = async () => {
      for (;;) {
        const code = await codeOf(store.put(smallBlob(nextBlobId(), 60_000), soon()));
        if (code !== "ok") return code;
      }
    };
    // Begun in turns of their own, so that several transactions are under way when the disk fails.
    const clients: Promise<string>[] = [];
    for (let n = 0; n < 6; n += 1) {
      clients.push(client());
      await nextTurn();
    }
    const codes = [...new Set(await Promise.all(clients))];
    const later = await codeOf(store.list("", 1, soon()));
    await systemClock.sleep(50);
    say(JSON.stringify({ codes, later, state: store.state(), fenceCount }));
    process.exit(0);
  },
};
await (modes[mode] as () => Promise<void>)();

import { systemClock } from "../../src/lib/clock.ts";
import { openLmdbWal } from "../../src/wal/lmdb-wal.ts";
import { MemoryIntents, createMemoryWal } from "../../src/wal/memory-wal.ts";
import { makeLmdbDirectory } from "../support/lmdb-directory.ts";
import type { WalHarness } from "./wal.contract.ts";
import { describeWal } from "./wal.contract.ts";

describeWal("memory log", async () => {
  const intents = new MemoryIntents();
  let wal = createMemoryWal(intents);
  return {
    get wal() {
      return wal;
    },
    async reopen() {
      await wal.close();
      wal = createMemoryWal(intents);
    },
    [Symbol.asyncDispose]: () => wal.close(),
  } satisfies WalHarness;
});

describeWal("LMDB log", async () => {
  const directory = await makeLmdbDirectory();
  const openWal = async () => openLmdbWal({ environment: await directory.open(), clock: systemClock });
  let wal = await openWal();
  return {
    get wal() {
      return wal;
    },
    async reopen() {
      await wal.close();
      wal = await openWal();
    },
    async [Symbol.asyncDispose]() {
      await wal.close();
      await directory[Symbol.asyncDispose]();
    },
  } satisfies WalHarness;
});

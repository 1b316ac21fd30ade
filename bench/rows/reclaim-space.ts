/** Half of what is stored is deleted: how much of the disk comes back, and how long that takes. */
import { randomBytes } from "node:crypto";
import { jobDone, startJob, untilSo } from "../healing-client.ts";
import type { Row } from "../row.ts";
import { startStore } from "../server-process.ts";
import { deleteObject, diskBytes, readUsage } from "../store-client.ts";
import { upload } from "../transfer.ts";
import { GIB, MIB } from "../../src/lib/bytes.ts";

const MB = 1e6;
const OBJECT_BYTES = 4 * MIB;
const WAIT_MS_MAX = 10 * 60_000;
/** Deleted objects can be brought back for a day by default, and space comes back slowly: here nobody wants to wait. */
const SETTINGS = {
  KINTSUGI_HEALING_UNDELETE_MS: "0",
  KINTSUGI_HEALING_ORPHAN_GRACE_MS: "1s",
  KINTSUGI_HEALING_COMPACT_BYTES_PER_SECOND: "off",
  KINTSUGI_STORAGE_VOLUME_BYTES_MAX: "128MiB",
};
/** What is left may take so much more disk than it has bytes. */
const SPARE_MAX = 1.5;

export const reclaimSpace: Row = {
  name: "reclaim-2g",
  title: "bytes on disk after half of 2 GiB was deleted",
  runtimes: ["node"],
  async run(context) {
    const objects = (context.quick ? GIB / 8 : 2 * GIB) / OBJECT_BYTES;
    const source = randomBytes(OBJECT_BYTES);
    const store = await startStore(context.runtime, context.directory, SETTINGS);
    try {
      const { url } = store;
      for (let n = 0; n < objects; n += 1) {
        await upload(url, { path: `/objects/half/${n}?strategy=ec`, source, bytes: OBJECT_BYTES });
      }
      const full = { live: (await readUsage(url)).liveBytes, disk: await diskBytes(context.directory) };
      const startedAt = performance.now();
      for (let n = 0; n < objects; n += 2) await deleteObject(url, `/objects/half/${n}`);
      const deletedMs = performance.now() - startedAt;
      await untilSo("the blobs of what was deleted to go", WAIT_MS_MAX, async () => {
        await jobDone(url, await startJob(url, "/cluster/healing/audit"), WAIT_MS_MAX);
        return (await readUsage(url)).liveBytes <= 0.51 * full.live;
      });
      const freedMs = performance.now() - startedAt - deletedMs;
      await jobDone(url, await startJob(url, "/cluster/healing/compact"), WAIT_MS_MAX);
      const compactedMs = performance.now() - startedAt - deletedMs - freedMs;
      const half = { live: (await readUsage(url)).liveBytes, disk: await diskBytes(context.directory) };
      const spare = half.disk / half.live;
      return {
        measured: [
          { label: "on disk before", value: full.disk / MB, unit: "MB" },
          { label: "on disk after", value: half.disk / MB, unit: "MB" },
          { label: "of it in use", value: half.live / MB, unit: "MB" },
          { label: "disk for each byte in use", value: spare, unit: "×" },
          { label: "deleted in", value: deletedMs, unit: "ms" },
          { label: "blobs freed in", value: freedMs, unit: "ms" },
          { label: "compacted in", value: compactedMs, unit: "ms" },
        ],
        yardsticks: [{ label: "disk for each byte in use, before", value: full.disk / full.live, unit: "×" }],
        aims: [{ text: `disk ≤ ${SPARE_MAX}× what is in use`, met: spare <= SPARE_MAX }],
        notes: context.quick ? ["quick: a sixteenth of the bytes"] : [],
      };
    } finally {
      await store.stop();
    }
  },
};

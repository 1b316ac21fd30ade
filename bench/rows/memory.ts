/** Row 6: what one large upload costs in memory. */
import { randomBytes } from "node:crypto";
import type { Row } from "../row.ts";
import { memoryOf, resetPeakMemory, startStore } from "../server-process.ts";
import { upload } from "../transfer.ts";
import { GIB, MIB } from "../../src/lib/bytes.ts";

const MB = 1e6;
const SAMPLE_MS = 50;
const GROWTH_MB_MAX = 200;

export const uploadMemory: Row = {
  name: "upload-2g",
  title: "upload 2 GiB: peak RSS growth",
  runtimes: ["node"],
  async run(context) {
    const bytes = context.quick ? GIB / 4 : 2 * GIB;
    const source = randomBytes(64 * MIB);
    const store = await startStore(context.runtime, context.directory);
    const before = memoryOf(store.pid);
    if (!before) {
      await store.stop();
      return {
        measured: [],
        yardsticks: [],
        aims: [],
        notes: ["skipped: memory is read from /proc, which is missing"],
      };
    }
    resetPeakMemory(store.pid);
    let anonymousPeak = 0;
    const watch = setInterval(() => {
      anonymousPeak = Math.max(anonymousPeak, memoryOf(store.pid)?.anonymous ?? 0);
    }, SAMPLE_MS);
    const sent = await upload(store.url, { path: "/objects/huge?strategy=ec", source, bytes });
    clearInterval(watch);
    const after = memoryOf(store.pid);
    await store.stop();

    const growth = ((after?.rssPeak ?? Number.NaN) - before.rss) / MB;
    return {
      measured: [
        { label: "peak RSS growth", value: growth, unit: "MB" },
        { label: "of it without mapped files", value: (anonymousPeak - before.anonymous) / MB, unit: "MB" },
        { label: "RSS before", value: before.rss / MB, unit: "MB" },
        { label: "rate", value: sent.bytes / sent.ms / 1e3, unit: "MB/s" },
      ],
      yardsticks: [],
      aims: [{ text: `≤ ${GROWTH_MB_MAX} MB`, met: growth <= GROWTH_MB_MAX }],
      notes: context.quick ? [`quick: ${bytes / MIB} MiB only`] : [],
    };
  },
};

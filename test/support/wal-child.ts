/**
 * Appends intents to the NATS log without end until it is killed: `node wal-child.ts <cluster name> <replicas> <url>…`.
 * Prints the number of each intent once it was acknowledged.
 */
import { writeSync } from "node:fs";
import { systemClock } from "../../src/lib/clock.ts";
import { deadlineIn } from "../../src/lib/deadline.ts";
import { openNatsWal } from "../../src/wal/nats-wal.ts";
import { sampleIntent } from "./sample-records.ts";
import { openTestLink } from "./test-link.ts";

const CLIENTS = 8;

const [clusterName, replicas, ...urls] = process.argv.slice(2) as [string, string, ...string[]];
const link = await openTestLink({ urls, replicas: Number(replicas) }, { clusterName });
const wal = await openNatsWal(link, { registry: null });
let last = 0;

await Promise.all(
  Array.from({ length: CLIENTS }, async () => {
    for (;;) {
      const n = (last += 1);
      await wal.append(sampleIntent(n), deadlineIn(systemClock, 30_000));
      writeSync(1, `${n}\n`);
      await systemClock.sleep(2);
    }
  }),
);

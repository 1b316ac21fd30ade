/** Makes a nats-server the leader of a stream, so that a test does not depend on an election. */
import { connect } from "@nats-io/transport-node";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalCluster } from "./cluster.ts";

const MOVED_MS_MAX = 20_000;
const POLL_MS = 100;

/** Resolves when it leads all of them. */
export async function makeLeader(cluster: LocalCluster, server: string, streams: readonly string[]): Promise<void> {
  const connection = await connect({ servers: [...cluster.natsUrls], ...cluster.natsLogin });
  try {
    for (const stream of streams) {
      const overdueAt = performance.now() + MOVED_MS_MAX;
      while ((await cluster.leaderOf(stream)).name !== server) {
        if (performance.now() > overdueAt)
          throw new Error(`${server} does not lead ${stream} after ${MOVED_MS_MAX} ms`);
        const wish = JSON.stringify({ placement: { preferred: server } });
        // Refused while a leader has only just been elected.
        await connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`, wish).catch(() => {});
        await sleep(POLL_MS);
      }
    }
  } finally {
    await connection.close();
  }
}

import { jetstreamManager } from "@nats-io/jetstream";
import type { NatsLink } from "./nats-link.ts";

/** How the streams of the store are doing, as their leaders tell; streams that nobody answers for are left out. */
export async function readStreamReports(link: NatsLink, metadataStreams: number) {
  const manager = await jetstreamManager(link.connection, { timeout: REPORT_MS });
  const { names } = link;
  const metadata = Array.from({ length: metadataStreams }, (_, index) => names.metadataStream(index));
  const asked = [...metadata, names.walStream, names.eventsStream].map(async (name) => {
    const { state, cluster, config } = await manager.streams.info(name);
    const replicas = cluster?.replicas ?? [];
    return {
      name,
      leader: cluster?.leader ?? null,
      messageCount: state.messages,
      bytes: state.bytes,
      replicasCurrent: 1 + replicas.filter(({ current, offline }) => current && offline !== true).length,
      replicasTotal: config.num_replicas,
    };
  });
  const answers = await Promise.allSettled(asked);
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
}

const REPORT_MS = 1_500;

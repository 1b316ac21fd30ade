import { jetstreamManager } from "@nats-io/jetstream";
import type { NatsLink } from "./nats-link.ts";

/** The streams that the store cannot do without. */
export function storeStreamNames({ names }: NatsLink, metadataStreams: number): string[] {
  const metadata = Array.from({ length: metadataStreams }, (_, index) => names.metadataStream(index));
  return [...metadata, names.walStream, names.eventsStream];
}

/** How streams are doing, as their leaders tell; those that nobody answers for are left out. */
export async function readStreamReports(link: NatsLink, streamNames: readonly string[]) {
  const manager = await jetstreamManager(link.connection, { checkAPI: false, timeout: REPORT_MS });
  const asked = streamNames.map(async (name) => {
    const { state, cluster, config } = await manager.streams.info(name);
    const replicas = cluster?.replicas ?? [];
    const away = replicas.filter(({ offline, active }) => offline === true || active > AWAY_NS);
    return {
      name,
      leader: cluster?.leader ?? null,
      messageCount: state.messages,
      bytes: state.bytes,
      replicasCurrent: 1 + replicas.filter((replica) => replica.current && !away.includes(replica)).length,
      replicasTotal: config.num_replicas,
      serversAway: away.map(({ name: server }) => server),
    };
  });
  const answers = await Promise.allSettled(asked);
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
}

/** Shorter than the page waits for all of them, so that one without a leader does not hide the others. */
const REPORT_MS = 1_200;
/** Followers are heard every second, also where nothing is written. */
const AWAY_NS = 4e9;

/**
 * Refuses nats-servers that may lose what they acknowledged. With JetStream's own default, which syncs every two
 * minutes, a power cut of all servers has lost every acknowledged message.
 */
import { jetstreamManager, PersistMode } from "@nats-io/jetstream";
import { StoreError } from "../domain/errors.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import type { NatsLink } from "./nats-link.ts";
import { readServerFacts } from "./nats-monitor.ts";
import type { ServerProblem, ServersSeen } from "./server-safety.ts";
import { findServerProblems } from "./server-safety.ts";

export type ServerCheckOptions = {
  /** Of all servers; empty: port 8222 of each server that the connected one knows. */
  readonly monitorUrls: readonly string[];
  /** Go on with servers that may lose acknowledged writes, or that cannot be looked at, with a warning. */
  readonly allowUnsafe: boolean;
  /** How long servers may take that are just starting. */
  readonly waitMs?: number;
};

const WAIT_MS = 10_000;
const RETRY_MS = 250;
const REQUEST_MS = 2_000;
const MONITOR_PORT = 8_222;

/**
 * Looks at every server of the cluster that runs. One that is off is passed over, so that a process can start then too.
 * @throws {StoreError} `nats_unsafe`, also for servers without JetStream and for too few of them, whatever is allowed
 */
export async function requireSafeServers(link: NatsLink, options: ServerCheckOptions): Promise<void> {
  const deadline = deadlineIn(link.clock, options.waitMs ?? WAIT_MS);
  let problems = await lookAtServers(link, options);
  for (let looks = 1; isWorthWaiting(problems, options) && remainingMs(link.clock, deadline) > 0; looks += 1) {
    if (looks === 1) link.logger.info({ met: problems.map(({ text }) => text) }, "waiting for the NATS servers");
    await link.clock.sleep(RETRY_MS);
    problems = await lookAtServers(link, options);
  }
  const refused = problems.filter(({ kind }) => kind === "unusable" || !options.allowUnsafe);
  if (refused.length > 0) throw unsafeServers(refused);
  for (const { text } of problems) {
    link.logger.warn({ cluster: link.names.clusterName }, `ACKNOWLEDGED WRITES MAY BE LOST: ${text}`);
  }
}

/** What the operator accepts anyway is not worth it, nor is it when something else will not pass. */
function isWorthWaiting(problems: readonly ServerProblem[], { allowUnsafe }: ServerCheckOptions): boolean {
  const refused = problems.filter(({ kind }) => kind === "unusable" || !allowUnsafe);
  return refused.length > 0 && refused.every(({ mayPass }) => mayPass);
}

async function lookAtServers(link: NatsLink, options: ServerCheckOptions): Promise<ServerProblem[]> {
  const { connection, clock, streamReplicas } = link;
  const urls = options.monitorUrls.length > 0 ? options.monitorUrls : usualMonitorUrls(link);
  const looks = urls.map(async (url) => ({ url, facts: await readServerFacts(clock, url) }));
  const [answers, asyncStreams] = await Promise.all([Promise.allSettled(looks), listAsyncStreams(link)]);
  const seen: ServersSeen = {
    servers: answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value.facts] : [])),
    silent: answers.flatMap((answer, index) =>
      answer.status === "rejected" ? [{ url: urls[index] as string, reason: reasonOf(answer.reason) }] : [],
    ),
    connected: { name: connection.info?.server_name ?? "", version: connection.info?.version ?? "" },
    asyncStreams,
  };
  return findServerProblems(seen, streamReplicas);
}

/** The connected server, and those it tells its clients of. */
function usualMonitorUrls({ connection }: NatsLink): string[] {
  const addresses = [connection.getServer(), ...(connection.info?.connect_urls ?? [])];
  const hosts = addresses.map((address) => new URL(`http://${address.replace(/^[a-z]+:\/\//, "")}`).hostname);
  return [...new Set(hosts)].map((host) => `http://${host}:${MONITOR_PORT}`);
}

/** Null while JetStream does not answer, as in a cluster that has no streams yet and no leader either. */
async function listAsyncStreams({ connection, names }: NatsLink): Promise<string[] | null> {
  try {
    const manager = await jetstreamManager(connection, { checkAPI: false, timeout: REQUEST_MS });
    const found: string[] = [];
    for await (const { config } of manager.streams.list()) {
      const isOurs = config.subjects?.some(
        (subject) =>
          subject.startsWith(`_kintsugi.${names.clusterName}.`) ||
          subject.startsWith(`$KV.kintsugi_${names.clusterName}_`),
      );
      if (isOurs && config.persist_mode === PersistMode.Async) found.push(config.name);
    }
    return found;
  } catch {
    return null;
  }
}

function unsafeServers(refused: readonly ServerProblem[]): StoreError {
  const told = refused.map(({ text }) => text).join(". ");
  const canBeAllowed = refused.every(({ kind }) => kind === "unsafe");
  const way = canBeAllowed ? ". To go on all the same, as on a laptop, start with --allow-unsafe-nats" : "";
  return new StoreError("nats_unsafe", `${told}${way}`, { retriable: refused.every(({ mayPass }) => mayPass) });
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error && cause.message !== "" ? cause.message : "no connection";
}

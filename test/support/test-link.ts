import type { Clock } from "../../src/lib/clock.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";

export type TestLinkOptions = {
  /** Of its own for every test, so that tests may share servers. */
  readonly clusterName: string;
  readonly clock?: Clock;
};

export type TestServers = { readonly urls: readonly string[]; readonly replicas: number };

/** A process's connection to servers of a test. */
export async function openTestLink(nats: TestServers, options: TestLinkOptions): Promise<NatsLink> {
  return await openNatsLink(
    {
      servers: nats.urls,
      user: null,
      password: null,
      token: null,
      credsFile: null,
      tlsCaFile: null,
      tlsCertFile: null,
      tlsKeyFile: null,
      clusterName: options.clusterName,
      processName: "test",
      streamReplicas: nats.replicas,
      connectMs: 10_000,
    },
    { clock: options.clock ?? systemClock, random: systemRandom, logger: silentLogger },
  );
}

import type { Config } from "../config.ts";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { NodeState, ProcessRole } from "../domain/node-info.ts";
import { claimAccount } from "../healer/nats-events-stream.ts";
import { joinClusterSettings } from "../membership/nats-cluster-settings.ts";
import type { NatsMembership } from "../membership/nats-membership.ts";
import { joinNatsMembership } from "../membership/nats-membership.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { NatsIncarnation } from "../metadata/nats-incarnation.ts";
import { openNatsLink } from "../nats/nats-link.ts";
import { requireSafeServers } from "../nats/nats-server-check.ts";
import { incarnationFile } from "./incarnation.ts";
import type { System } from "./system.ts";
import { addressOf, identityOf, processNameOf, programVersion } from "./system.ts";

const CONNECT_MS = 10_000;
const INCARNATION_CHECK_MS = 10_000;

/** The secret that the processes of a cluster prove to each other. @throws {StoreError} `config_invalid` */
export function clusterSecretOf({ credentials }: Config): string {
  if (credentials.clusterSecret !== null) return credentials.clusterSecret;
  throw new StoreError(
    "config_invalid",
    "There is no cluster secret: set KINTSUGI_CLUSTER_SECRET or secrets.clusterSecretFile, the same in every process",
  );
}

/**
 * Connects to NATS and makes sure that this process fits in: servers that keep what they acknowledge, an account that
 * no other cluster has, the same secret and the same settings as everyone else. Closed with `open`.
 * `onLost` is told when the metadata turns out to be gone later.
 * @throws {StoreError} `nats_unavailable`, `nats_unsafe`, `cluster_mismatch`, `metadata_lost`, `config_invalid`
 */
export async function linkToCluster(
  config: Config,
  system: System,
  role: ProcessRole,
  onLost: (cause: StoreError) => void,
  open: AsyncDisposableStack,
): Promise<NatsLink> {
  const link = await openCheckedLink(config, system, role, open);
  const file = incarnationFile(config);
  // Opened for every look: the bucket may be gone with everything else.
  const check = async () => (await NatsIncarnation.open(link)).join(role, config.cluster.metadataStreams, file);
  await check();
  open.use(watchIncarnation(system, check, onLost));
  return link;
}

/** Looks again now and then: a node hears so that its metadata is made anew, and everybody that it is gone. */
function watchIncarnation(
  { clock, logger }: System,
  check: () => Promise<void>,
  onLost: (cause: StoreError) => void,
): Disposable {
  let isClosed = false;
  let timer = clock.startTimer(INCARNATION_CHECK_MS, look);
  function look(): void {
    void check()
      .catch((cause: unknown) => {
        if (!isStoreError(cause)) throw cause;
        if (isClosed) return;
        if (cause.code === "metadata_lost") onLost(cause);
        else logger.debug({ code: cause.code }, "the incarnation of the metadata could not be looked at");
      })
      .finally(() => {
        if (!isClosed) timer = clock.startTimer(INCARNATION_CHECK_MS, look);
      });
  }
  return {
    [Symbol.dispose]() {
      isClosed = true;
      timer.cancel();
    },
  };
}

/** The same without a look at the metadata, for whoever makes it anew. */
export async function openCheckedLink(
  config: Config,
  system: System,
  role: ProcessRole,
  open: AsyncDisposableStack,
): Promise<NatsLink> {
  const clusterSecret = clusterSecretOf(config);
  const { cluster, nats } = config;
  const link = await openLink(config, system, role, open);
  await requireSafeServers(link, { monitorUrls: nats.monitorUrls, allowUnsafe: nats.allowUnsafe });
  // First of all that is stored, so that a cluster which is refused leaves nothing behind.
  await claimAccount(link, { maxAgeMs: config.events.ageMsMax, bytesMax: config.events.bytesMax });
  const { metadataStreams, streamReplicas, bucketDefaults, buckets } = cluster;
  await joinClusterSettings(
    link,
    { format: 1, metadataStreams, streamReplicas, bucketDefaults, buckets },
    clusterSecret,
  );
  return link;
}

/** One more connection to NATS: large bodies on it do not stand in the way of commits. Closed with `open`. */
export async function openLink(
  config: Config,
  system: System,
  role: ProcessRole,
  open: AsyncDisposableStack,
): Promise<NatsLink> {
  const { cluster, nats, credentials } = config;
  const link = await openNatsLink(
    {
      ...nats,
      password: credentials.natsPassword,
      token: credentials.natsToken,
      clusterName: cluster.name,
      processName: processNameOf(config, role),
      streamReplicas: cluster.streamReplicas,
      connectMs: CONNECT_MS,
    },
    system,
  );
  open.defer(() => link.close());
  return link;
}

export type MemberReport = () => { readonly state: NodeState; readonly load: Readonly<Record<string, number>> };

/** Makes this process known to the others under its name. @throws {StoreError} `name_taken` */
export async function joinMembers(
  config: Config,
  system: System,
  link: NatsLink,
  self: { readonly role: ProcessRole; readonly port: number; readonly describe: MemberReport },
  open: AsyncDisposableStack,
): Promise<NatsMembership> {
  const { region, zone, weight } = config;
  const membership = await joinNatsMembership(link, {
    name: link.processName,
    role: self.role,
    identity: await identityOf(config, system),
    address: addressOf(config, self.port),
    ...{ region, zone, weight },
    version: programVersion(),
    describe: self.describe,
  });
  open.defer(() => membership.close());
  return membership;
}

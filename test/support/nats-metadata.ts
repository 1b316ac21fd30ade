/** Metadata stores on streams of their own, as many as a test wants to be processes, with a connection and an index each. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "../../src/lib/logger.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import type { NatsMetadataOptions, NatsMetadataStore } from "../../src/metadata/nats-metadata-store.ts";
import { openNatsMetadataStore } from "../../src/metadata/nats-metadata-store.ts";
import { ensureMetadataStreams } from "../../src/metadata/nats-metadata-streams.ts";
import type { NatsLink } from "../../src/nats/nats-link.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";
import type { NatsCluster } from "./nats.ts";

export type MetadataProcess = {
  readonly link: NatsLink;
  readonly indexDir: string;
  /** As opened last. */
  readonly store: NatsMetadataStore;
  close(): Promise<void>;
  reopen(): Promise<void>;
};

export type NatsMetadata = AsyncDisposable & {
  readonly clusterName: string;
  /** Opens one more store, as another process would. */
  open(options?: OpenOptions): Promise<MetadataProcess>;
};

export type OpenOptions = {
  /** Of the servers; all of them without. */
  readonly urls?: readonly string[];
  readonly indexDir?: string;
  readonly logger?: Logger;
  /** Puts something between the store and its connection. */
  readonly through?: (link: NatsLink) => NatsLink;
  readonly onFailed?: NonNullable<NatsMetadataOptions["onFailed"]>;
  /** Always, unless told otherwise. */
  readonly following?: NatsMetadataOptions["following"];
};

let clusterCount = 0;

export async function makeNatsMetadata(nats: NatsCluster, streamCount = 2): Promise<NatsMetadata> {
  const clusterName = `meta-${process.pid}-${(clusterCount += 1)}`;
  const parent = await mkdtemp(join(tmpdir(), "kintsugi-nats-metadata-"));
  const processes: MetadataProcess[] = [];

  async function open(options: OpenOptions = {}): Promise<MetadataProcess> {
    const name = `process-${processes.length + 1}`;
    const link = await linkTo(nats, clusterName, name, options);
    if (processes.length === 0) await ensureMetadataStreams(link, streamCount, "test");
    const indexDir = options.indexDir ?? join(parent, name);
    const { onFailed, following = "always", through = (direct) => direct } = options;
    const openStore = () =>
      openNatsMetadataStore(through(link), {
        streamCount,
        indexDir,
        registry: null,
        following,
        ...(onFailed === undefined ? {} : { onFailed }),
      });
    let store = await openStore();
    const opened: MetadataProcess = {
      link,
      indexDir,
      get store() {
        return store;
      },
      close: () => store.close(),
      async reopen() {
        await store.close();
        store = await openStore();
      },
    };
    processes.push(opened);
    return opened;
  }

  return {
    clusterName,
    open,
    async [Symbol.asyncDispose]() {
      await Promise.all(processes.map(({ store }) => store.close()));
      await Promise.all(processes.map(({ link }) => link.close()));
      await rm(parent, { recursive: true, force: true });
    },
  };
}

async function linkTo(nats: NatsCluster, clusterName: string, processName: string, options: OpenOptions) {
  return await openNatsLink(
    {
      servers: options.urls ?? nats.urls,
      user: null,
      password: null,
      token: null,
      credsFile: null,
      tlsCaFile: null,
      tlsCertFile: null,
      tlsKeyFile: null,
      clusterName,
      processName,
      streamReplicas: nats.replicas,
      connectMs: 2_000,
    },
    { clock: systemClock, random: systemRandom, logger: options.logger ?? silentLogger },
  );
}

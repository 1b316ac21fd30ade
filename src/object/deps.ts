import type { BlobStore } from "../blob/blob-store.ts";
import type { Coder } from "../coding/coder.ts";
import type { StripePool } from "../coding/stripe-pool.ts";
import type { BucketName, NodeName, Txid } from "../domain/ids.ts";
import type { BucketSettings } from "../domain/settings.ts";
import type { Alarms } from "../lib/alarms.ts";
import type { Clock } from "../lib/clock.ts";
import type { FaultPoints } from "../lib/fault-points.ts";
import type { Logger } from "../lib/logger.ts";
import type { Random } from "../lib/random.ts";
import type { Semaphore } from "../lib/semaphore.ts";
import type { Membership } from "../membership/membership.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { Wal } from "../wal/wal.ts";
import type { ActiveWrites } from "./active-writes.ts";
import type { ContentCache } from "./content-cache.ts";
import type { MendHints } from "./mend-hints.ts";
import type { ObjectMetrics } from "./metrics.ts";
import type { NodeLatency } from "./node-latency.ts";
import type { ReadHeat } from "./read-heat.ts";
import type { ReadPins, RemotePins } from "./read-pins.ts";
import type { Releaser } from "./release.ts";

/** Waits of the object paths, in milliseconds; from `config.ts`. */
export type ObjectTimeouts = {
  /** One wait on metadata or WAL. */
  readonly metadataMs: number;
  /** One wait on a node. */
  readonly nodeMs: number;
  /** After the quorum is durable, how long a write waits for the remaining blobs before it commits dirty. */
  readonly stragglerMs: number;
  /** How long a request waits for memory before it is told to come back later. */
  readonly memoryMs: number;
};

/** What the object paths need. Made once in `compose.ts`. */
export type ObjectDeps = {
  /** Unique among the processes of a cluster: intents carry it. */
  readonly processName: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly faults: FaultPoints;
  readonly metadata: MetadataStore;
  readonly wal: Wal;
  readonly membership: Membership;
  /** May change at any time, as nodes join and leave. */
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  /** Where this process runs, if that is known: near nodes are read from first. */
  readonly locality?: { readonly region: string; readonly zone: string } | null;
  readonly latency: NodeLatency;
  /** For waits that mostly end before their time. */
  readonly alarms: Alarms;
  readonly coder: Coder;
  readonly stripes: StripePool;
  readonly metrics: ObjectMetrics;
  /** Blob sets that readers of this process stream from. */
  readonly pins: ReadPins;
  /** Those that readers of other processes stream from, as far as they have told. */
  readonly remotePins: RemotePins;
  /** Content that is in memory for the next reader. */
  readonly cache: ContentCache;
  /** How often which objects are read here. */
  readonly heat: ReadHeat;
  /** Writes of this process under way: recovery leaves them alone. */
  readonly active: ActiveWrites;
  /** Tells healers what there is to mend. */
  readonly hints: MendHints;
  /** Frees the blobs of replaced versions. */
  readonly releaser: Releaser;
  /** Bytes in flight of all requests together. */
  readonly memory: Semaphore;
  readonly nextTxid: () => Txid;
  readonly settingsOf: (bucket: BucketName) => BucketSettings;
  readonly timeouts: ObjectTimeouts;
  readonly objectBytesMax: number;
};

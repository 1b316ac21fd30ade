/**
 * Every setting there is, with its default, its limits and the sentence that explains it. Adding one here is all it
 * takes: file, environment, flags, error messages and the reference follow from this tree.
 *
 * `cluster` holds what must be equal in every process of a cluster; everything else belongs to one process. There is no
 * secret among the settings: `secrets` names the files that hold them.
 */
import { isIP } from "node:net";
import { z } from "zod";
import { CONSISTENCIES } from "../domain/receipt.ts";
import { STRATEGIES } from "../domain/manifest.ts";
import { parseNodeName } from "../domain/ids.ts";
import { GIB, KIB, MIB } from "../lib/bytes.ts";
import { LIMITS } from "../limits.ts";
import {
  choice,
  duration,
  list,
  numberBetween,
  oneOf,
  orWord,
  positiveNumber,
  setting,
  settingMetas,
  showValue,
  size,
  text,
  wholeNumber,
  yamlOf,
  yesOrNo,
} from "./values.ts";

export const NODES_MAX = 128;
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export const LOG_FORMATS = ["auto", "text", "json"] as const;

const DEFAULT_HOT_FIELDS = [
  ...["device_id", "device_type", "user_id", "tenant_id", "site_id"],
  ...["status", "status_code", "state", "mode", "is_active", "is_online"],
  ...["battery_level", "battery_voltage", "signal_strength", "rssi", "temperature", "humidity"],
  ...["latitude", "longitude", "uptime_s", "error_count", "last_error_code"],
  ...["firmware_version", "config_version", "last_sync_ts", "last_seen_ts", "updated_at"],
  ...["view_count", "like_count"],
];

/** Shapes of the sections, kept so that error messages and the reference can walk the tree. */
const sectionShapes = new WeakMap<z.core.$ZodType, z.core.$ZodShape>();

function section<Shape extends z.core.$ZodShape>(shape: Shape) {
  // A section whose lines are all commented out is null in YAML, and means nothing but defaults.
  const schema = z.preprocess((raw) => raw ?? {}, z.strictObject(shape)).prefault({});
  sectionShapes.set(schema, shape);
  return schema;
}

const bucketKinds = {
  strategy: choice([...STRATEGIES, "auto"]),
  k: wholeNumber({ min: 1, max: LIMITS.dataShardsMax }),
  m: wholeNumber({ min: 1, max: LIMITS.parityShardsMax }),
  replicas: wholeNumber({ min: 1, max: LIMITS.dataShardsMax + LIMITS.parityShardsMax }),
  consistency: choice(CONSISTENCIES),
  inlineBytesMax: size({ min: 0, max: 64 * KIB }),
  replicationBytesMax: size({ min: 0, max: 64 * MIB }),
  hybridBytesMin: size({ min: 0, max: 1 * GIB }),
  hotFields: list(
    `up to ${LIMITS.hotFieldsMax} different field names of up to ${LIMITS.hotFieldNameBytesMax} bytes, such as [status, battery_level]`,
    (names) =>
      names.length <= LIMITS.hotFieldsMax &&
      new Set(names).size === names.length &&
      names.every((name) => Buffer.byteLength(name) <= LIMITS.hotFieldNameBytesMax),
  ),
};

const bucketDefaults = section({
  strategy: setting(bucketKinds.strategy, "auto", "How objects are stored when the request does not say"),
  k: setting(bucketKinds.k, 4, "Data shards of erasure-coded content"),
  m: setting(bucketKinds.m, 2, "Parity shards: how many nodes may be lost. k + m may not exceed the number of nodes"),
  replicas: setting(bucketKinds.replicas, 3, "Copies of replicated content, at most one per node"),
  consistency: setting(
    bucketKinds.consistency,
    "quorum",
    "What must be durable before a write is acknowledged. `one`: just enough blobs to read it back, `quorum`: one more, `all`: every one",
  ),
  inlineBytesMax: setting(bucketKinds.inlineBytesMax, 512, "`auto`: bodies up to this size live in the record"),
  replicationBytesMax: setting(
    bucketKinds.replicationBytesMax,
    64 * KIB,
    "`auto`: bodies up to this size are replicated",
  ),
  hybridBytesMin: setting(
    bucketKinds.hybridBytesMin,
    16 * KIB,
    "`auto`: JSON objects from this size on are split by field",
  ),
  hotFields: setting(
    bucketKinds.hotFields,
    DEFAULT_HOT_FIELDS,
    "Top-level JSON fields kept apart, so that changing them costs one metadata commit",
  ),
});

const bucketOverrides = z
  .strictObject({
    strategy: bucketKinds.strategy.schema,
    k: bucketKinds.k.schema,
    m: bucketKinds.m.schema,
    replicas: bucketKinds.replicas.schema,
    consistency: bucketKinds.consistency.schema,
    inlineBytesMax: bucketKinds.inlineBytesMax.schema,
    replicationBytesMax: bucketKinds.replicationBytesMax.schema,
    hybridBytesMin: bucketKinds.hybridBytesMin.schema,
    hotFields: bucketKinds.hotFields.schema,
  })
  .partial();

const label = text("text without control characters", (value) => !/\p{Cc}/u.test(value));
const nodeName = text("1 to 63 lower-case letters, digits and hyphens", (value) => {
  try {
    return parseNodeName(value) === value;
  } catch {
    return false;
  }
});
const nodeShape = {
  name: nodeName.schema,
  region: label.schema.default("local"),
  zone: label.schema.default("local"),
  weight: positiveNumber(1_000).schema.default(1),
};

const NODES_ALLOWED = `a number from 1 to ${NODES_MAX}, or a list of {name, region, zone, weight}`;
const nodes = z
  .preprocess(
    (raw, context) => {
      const value = yamlOf(raw);
      if (Array.isArray(value) && value.length >= 1 && value.length <= NODES_MAX) return value as unknown;
      if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= NODES_MAX) {
        return Array.from({ length: value }, (_, index) => ({ name: `node-${index + 1}` }));
      }
      context.addIssue({
        code: "custom",
        input: raw,
        message: `${showValue(raw)} is not allowed: give ${NODES_ALLOWED}`,
      });
      return z.NEVER;
    },
    z.array(z.strictObject(nodeShape)),
  )
  .prefault(6);
settingMetas.set(nodes, {
  description:
    "Storage nodes: how many (named node-1, node-2, …), or a list with failure domains and relative capacity",
  allowed: NODES_ALLOWED,
  shownDefault: "6",
});

const buckets = z
  .preprocess(
    (raw, context) => {
      const value = yamlOf(raw) ?? {};
      // A record type skips over this one name without a word.
      if (Object.hasOwn(value as object, "__proto__")) {
        context.addIssue({ code: "custom", path: ["__proto__"], input: raw, message: "is not a bucket name" });
      }
      return value;
    },
    z.record(
      z.string(),
      z.preprocess((raw) => raw ?? {}, bucketOverrides),
    ),
  )
  .prefault({});
settingMetas.set(buckets, {
  description: "Settings of single buckets by name; each may set any of `cluster.bucketDefaults`",
  allowed: "a map of bucket names to settings, such as {telemetry: {k: 2, m: 1}}",
  shownDefault: "none",
});

const waitMs = duration({ min: 1, max: 3_600_000 });
const path = text("a path", (value) => !value.includes("\0"));
const anyText = text("text", () => true);

const rootShape = {
  host: setting(
    text("an IP address or host name", (value) => /^[\w.:-]+$/.test(value)),
    "127.0.0.1",
    "Address to listen on. There is no authentication yet: only open it (0.0.0.0) where you trust the network",
  ),
  port: setting(
    orWord("auto", wholeNumber({ min: 0, max: 65_535 })),
    null,
    "TCP port to listen on; 0 takes a free one. `auto` is 8000 for `serve` and gateways, 8100 for nodes, 8200 for healers",
  ),
  name: setting(
    orWord("auto", nodeName),
    null,
    "Name of this process, unique in its role in the cluster. `auto` is the role and the host name",
  ),
  advertise: setting(
    orWord("auto", text("a host and port, such as 10.0.0.7:8100", isHostAndPort)),
    null,
    "Where other processes reach this one. `auto` is `host` and `port`, with the host name where `host` is a wildcard",
  ),
  region: setting(label, "local", "Failure domain of this process: a site. Blobs are spread over regions first"),
  zone: setting(label, "local", "Failure domain within the region: a rack or a power supply"),
  weight: setting(positiveNumber(1_000), 1, "Relative capacity of this node"),
  dataDir: setting(
    path,
    "./data",
    "Where everything is stored, relative to the working directory; one process at a time",
  ),
  logLevel: setting(choice(LOG_LEVELS), "info", "Least level that is logged"),
  logFormat: setting(choice(LOG_FORMATS), "auto", "`auto`: text on a terminal, one JSON object per line elsewhere"),
  threads: setting(
    orWord("auto", wholeNumber({ min: 1, max: 256 })),
    null,
    "Worker threads for SHA-256, erasure coding and JSON; `auto` is one per core",
  ),
  memory: section({
    inFlightBytesMax: setting(
      size({ min: 32 * MIB, max: 1_024 * GIB }),
      256 * MIB,
      "Bytes that all requests together may hold; over it the answer is 503 with Retry-After",
    ),
  }),
  storage: section({
    volumeBytesMax: setting(
      size({ min: 16 * MIB, max: 1_024 * GIB }),
      4 * GIB,
      "Size at which a node starts another volume file",
    ),
    freeBytesMin: setting(
      size({ min: 0, max: 1_024 * GIB }),
      1 * GIB,
      "Free disk space below which nodes take no more writes; deletes go on",
    ),
  }),
  cache: section({
    bytesMax: setting(
      size({ min: 0, max: 1_024 * GIB }),
      64 * MIB,
      "Bytes of content that a gateway keeps in memory for the next reader; 0 keeps nothing",
    ),
    entryBytesMax: setting(size({ min: 0, max: 64 * MIB }), 1 * MIB, "Content larger than this is not kept"),
    ttlMs: setting(
      duration({ min: 1, max: 24 * 3_600_000 }),
      10 * 60_000,
      "How long content is kept at most; it is never stale, whatever its age",
    ),
  }),
  healing: section({
    rebuildAfterMs: setting(
      duration({ min: 1_000, max: 30 * 86_400_000 }),
      15 * 60_000,
      "A node that is away for longer has its blobs rebuilt on others",
    ),
    auditEveryMs: setting(
      duration({ min: 1_000, max: 30 * 86_400_000 }),
      6 * 3_600_000,
      "How often all records are compared with what the nodes hold; also done whenever a node returns",
    ),
    orphanGraceMs: setting(
      duration({ min: 1_000, max: 30 * 86_400_000 }),
      3_600_000,
      "How long a blob that nothing refers to is watched before it is deleted",
    ),
    undeleteMs: setting(
      duration({ min: 0, max: 365 * 86_400_000 }),
      24 * 3_600_000,
      "How long a deleted object can be brought back; then its space is given back",
    ),
    keepRecordsMs: setting(
      duration({ min: 1_000, max: 24 * 3_600_000 }),
      60_000,
      "Within this time nodes also have what only metadata knows: inline content, hot updates, deletes",
    ),
    repairBytesPerSecond: setting(
      orWord("off", size({ min: 64 * KIB, max: 1_024 * GIB })),
      128 * MIB,
      "Bytes per second that each healer reads and writes to mend and move; off for no bound",
    ),
    repairBytesInFlight: setting(
      size({ min: 16 * MIB, max: 64 * GIB }),
      64 * MIB,
      "Memory of a healer for objects that it mends side by side",
    ),
    scrubBytesPerSecond: setting(
      orWord("off", size({ min: 4 * KIB, max: 1_024 * GIB })),
      8 * MIB,
      "Bytes per second that each node reads of itself to find bad ones; off for no bound",
    ),
    scrubEveryMs: setting(
      duration({ min: 1_000, max: 365 * 86_400_000 }),
      7 * 86_400_000,
      "How often a node verifies everything that it holds",
    ),
    compactBelow: setting(
      numberBetween(0, 1),
      0.7,
      "A volume of whose file a smaller share than this is in use is emptied and given back to the file system",
    ),
    compactBytesPerSecond: setting(
      orWord("off", size({ min: 64 * KIB, max: 1_024 * GIB })),
      32 * MIB,
      "Bytes per second that each node copies to empty such volumes; off for no bound",
    ),
    balanceEveryMs: setting(
      duration({ min: 1_000, max: 30 * 86_400_000 }),
      3_600_000,
      "How often the leading healer looks whether nodes hold their share; also done whenever a node joins or drains",
    ),
    balanceSpread: setting(
      numberBetween(0, 1),
      0.1,
      "Nodes whose share of the bytes is off by no more than this part of it are left alone",
    ),
    balanceBytesMin: setting(
      size({ min: 0, max: 1_024 * GIB }),
      64 * MIB,
      "Nodes that hold no more than this above their share are left alone too",
    ),
    heatReadsMin: setting(
      wholeNumber({ min: 1, max: 1_000_000_000 }),
      6_000,
      "Reads of one object in a minute, over all gateways, from which it gets more copies",
    ),
    heatCopiesMax: setting(
      wholeNumber({ min: 0, max: 16 }),
      2,
      "More copies that a hot object gets at most; 0 gives none. Erasure-coded content gets at least two whole ones",
    ),
    heatBytesMax: setting(
      size({ min: 0, max: LIMITS.objectBytesMax }),
      64 * MIB,
      "Content that is larger gets no more copies, however often it is read",
    ),
    heatCoolMs: setting(
      duration({ min: 1_000, max: 30 * 86_400_000 }),
      10 * 60_000,
      "How long an object must be read less than half as often before it loses them again",
    ),
  }),
  timeouts: section({
    metadataMs: setting(waitMs, 10_000, "One wait on metadata or on the write-ahead log"),
    nodeMs: setting(waitMs, 10_000, "One wait on a storage node"),
    stragglerMs: setting(waitMs, 2_000, "How long a write that has its quorum waits for the remaining blobs"),
    memoryMs: setting(waitMs, 5_000, "How long a request waits for memory before it is answered 503"),
    drainMs: setting(waitMs, 10_000, "How long a stopping process lets requests finish"),
  }),
  http: section({
    objectBytesMax: setting(
      size({ min: 1, max: LIMITS.objectBytesMax }),
      LIMITS.objectBytesMax,
      "Largest body of an object; over it the answer is 413",
    ),
    connectionsMax: setting(
      wholeNumber({ min: 1, max: 1_000_000 }),
      4_096,
      "Open connections; more are closed at once",
    ),
    bodyBytesPerSecondMin: setting(
      size({ min: 0, max: 1 * GIB }),
      1 * KIB,
      "Clients that send or take a body slower than this are cut off; 0 waits for ever",
    ),
    writesPerSecondMax: setting(
      orWord("off", wholeNumber({ min: 1, max: 1_000_000 })),
      null,
      "Writes per second from one address; over it the answer is 429",
    ),
    trustedProxies: setting(
      list("IP addresses or networks, such as [10.0.0.0/8, ::1]", (values) => values.every(isNetwork)),
      [],
      "Proxies whose X-Forwarded-For is believed",
    ),
  }),
  nats: section({
    servers: setting(
      list("URLs, such as nats://10.0.0.1:4222", (urls) => urls.length > 0 && urls.every((url) => URL.canParse(url))),
      ["nats://127.0.0.1:4222"],
      "The servers of the cluster, for gateways, nodes and healers; some are enough to find the others",
    ),
    user: setting(orWord("off", anyText), null, "User name; the password is a secret"),
    credsFile: setting(orWord("off", path), null, "A file with NATS credentials (JWT and key)"),
    tlsCaFile: setting(orWord("off", path), null, "Certificate authority that signed the servers' certificates"),
    tlsCertFile: setting(orWord("off", path), null, "Certificate of this process"),
    tlsKeyFile: setting(orWord("off", path), null, "Private key of that certificate"),
    monitorUrls: setting(
      list("URLs, such as http://10.0.0.1:8222", (urls) => urls.every((url) => URL.canParse(url))),
      [],
      "Where the servers' monitoring is, for the check that they are safe; none: port 8222 of each server",
    ),
    allowUnsafe: setting(
      yesOrNo(),
      false,
      "Go on with servers that may lose acknowledged writes (no `sync_interval: always`), or that cannot be checked",
    ),
    requestsMax: setting(
      wholeNumber({ min: 1, max: 1_000_000 }),
      1_024,
      "Requests over NATS that a gateway works on at once; over it the answer is `overloaded`",
    ),
  }),
  secrets: section({
    clusterSecretFile: setting(
      orWord("off", path),
      null,
      "File with the secret that gateways, healers and nodes prove to each other; or the variable KINTSUGI_CLUSTER_SECRET",
    ),
    natsPasswordFile: setting(
      orWord("off", path),
      null,
      "File with the password of `nats.user`; or the variable KINTSUGI_NATS_PASSWORD",
    ),
    natsTokenFile: setting(
      orWord("off", path),
      null,
      "File with a token for NATS; or the variable KINTSUGI_NATS_TOKEN",
    ),
  }),
  events: section({
    ageMsMax: setting(
      duration({ min: 60_000, max: 365 * 86_400_000 }),
      7 * 86_400_000,
      "How long change events stay in their stream",
    ),
    bytesMax: setting(size({ min: 1 * MIB, max: 1_024 * GIB }), 1 * GIB, "Size at which the oldest change events go"),
  }),
  cluster: section({
    name: setting(
      nodeName,
      "main",
      "Name of the cluster; several may share NATS servers, each in an account of its own",
    ),
    metadataStreams: setting(
      wholeNumber({ min: 1, max: 64 }),
      2,
      "JetStream streams that metadata is spread over; fixed when the cluster is made",
    ),
    streamReplicas: setting(
      oneOf([1, 3, 5]),
      3,
      "Copies of every JetStream stream, each on a server of its own; fixed when the cluster is made",
    ),
    nodes,
    bucketDefaults,
    buckets,
  }),
};

export const settingsSchema = section(rootShape);
export type Settings = z.output<typeof settingsSchema>;

export type SettingEntry = { readonly path: readonly string[] } & {
  readonly description: string;
  readonly allowed: string;
  readonly shownDefault: string;
};

/** Every setting in the order of the schema. */
export function listSettings(): SettingEntry[] {
  return settingsUnder(settingsSchema, []);
}

/** The names that may stand at `path`, or none where that is not a map of known names. */
export function namesAt(path: readonly (string | number)[]): string[] {
  // Below these two stand entries of the user's own making, a node or a bucket each.
  if (path.length === 3 && path[0] === "cluster" && path[1] === "nodes") return Object.keys(nodeShape);
  if (path.length === 3 && path[0] === "cluster" && path[1] === "buckets") return Object.keys(bucketKinds);
  let shape: z.core.$ZodShape = rootShape;
  for (const step of path) {
    const child = shape[step];
    const found = child === undefined ? undefined : sectionShapes.get(child);
    if (found === undefined) return [];
    shape = found;
  }
  return Object.keys(shape);
}

function settingsUnder(schema: z.core.$ZodType, path: readonly string[]): SettingEntry[] {
  const found = sectionShapes.get(schema);
  if (found !== undefined) {
    return Object.entries(found).flatMap(([name, child]) => settingsUnder(child, [...path, name]));
  }
  const meta = settingMetas.get(schema);
  return meta === undefined ? [] : [{ path, ...meta }];
}

function isHostAndPort(value: string): boolean {
  const match = /^(?:[\w.-]+|\[[\da-f:.]+\]):(\d{1,5})$/i.exec(value);
  return match !== null && Number(match[1]) >= 1 && Number(match[1]) <= 65_535;
}

function isNetwork(value: string): boolean {
  const [address = "", prefix, ...rest] = value.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128));
}

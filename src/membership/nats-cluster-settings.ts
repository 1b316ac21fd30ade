/**
 * What must be equal in every process of a cluster, because data is laid out by it. Written once, by whoever joins first,
 * and compared by everyone else. Beside it stands a proof of the cluster secret, from which the secret cannot be read.
 */
import { pbkdf2, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { z } from "zod";
import { StoreError } from "../domain/errors.ts";
import { STRATEGIES } from "../domain/manifest.ts";
import { CONSISTENCIES } from "../domain/receipt.ts";
import type { BucketSettings } from "../domain/settings.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { openKv, replaceKv, untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { createMessageCodec } from "../domain/message-codec.ts";
import { listDifferences } from "./settings-differences.ts";

export type ClusterSettings = {
  /** Of everything stored together. */
  readonly format: 1;
  readonly metadataStreams: number;
  readonly streamReplicas: number;
  readonly bucketDefaults: BucketSettings;
  readonly buckets: Readonly<Record<string, BucketSettings>>;
};

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);
const whole = z.number().int().nonnegative();
const bucketSchema: z.ZodType<BucketSettings> = z.looseObject({
  strategy: z.enum([...STRATEGIES, "auto"]),
  k: whole,
  m: whole,
  replicas: whole,
  consistency: z.enum(CONSISTENCIES),
  inlineBytesMax: whole,
  replicationBytesMax: whole,
  hybridBytesMin: whole,
  hotFields: z.array(z.string()),
});
const storedSchema = z.object({
  // Loose, so that a setting which only the other version has is a difference that is told.
  settings: z.looseObject({
    format: z.literal(1),
    metadataStreams: whole,
    streamReplicas: whole,
    bucketDefaults: bucketSchema,
    buckets: z.record(z.string(), bucketSchema),
  }),
  secretProof: z.object({ salt: bytes, digest: bytes, rounds: whole }),
});
type Stored = z.output<typeof storedSchema>;

export const clusterSettingsCodec = createMessageCodec<Stored>("the settings of the cluster", storedSchema);

const KEY = "settings";
const JOIN_MS = 30_000;
/** Makes guessing a weak secret from its proof slow; a joining process spends some tens of milliseconds. */
const PROOF_ROUNDS = 100_000;
const SALT_BYTES = 16;
const DIGEST_BYTES = 32;

const deriveDigest = promisify(pbkdf2);

/**
 * Stores the settings if this is the first process of the cluster, else makes sure that they are the cluster's. Waits up
 * to half a minute for servers that have just started.
 * @throws {StoreError} `cluster_mismatch` for another secret or other settings, `nats_unavailable` (retriable), `format_unknown`
 */
export async function joinClusterSettings(
  link: NatsLink,
  settings: ClusterSettings,
  clusterSecret: string,
): Promise<ClusterSettings> {
  const kv = await openKv(link, link.names.settingsBucket);
  const deadline = deadlineIn(link.clock, JOIN_MS);
  const stored = await untilAnswered(link, deadline, "read the settings of the cluster", async () => {
    for (;;) {
      const entry = await kv.get(KEY);
      if (entry !== null && entry.operation === "PUT") return clusterSettingsCodec.decode(entry.value);
      const first = { settings, secretProof: await proveSecret(link, clusterSecret) };
      // What comes of it is read again, whether this process was first or another one.
      await replaceKv(kv, KEY, clusterSettingsCodec.encode(first), 0);
    }
  });
  await checkSecret(link, clusterSecret, stored.secretProof);
  checkSettings(link, stored.settings, settings);
  return settings;
}

async function proveSecret(link: NatsLink, secret: string): Promise<Stored["secretProof"]> {
  const salt = link.random.bytes(SALT_BYTES);
  return { salt, digest: await deriveDigest(secret, salt, PROOF_ROUNDS, DIGEST_BYTES, "sha256"), rounds: PROOF_ROUNDS };
}

async function checkSecret(link: NatsLink, secret: string, proof: Stored["secretProof"]): Promise<void> {
  const digest = await deriveDigest(secret, proof.salt, proof.rounds, DIGEST_BYTES, "sha256");
  if (proof.digest.length === digest.length && timingSafeEqual(proof.digest, digest)) return;
  throw new StoreError(
    "cluster_mismatch",
    `Cannot join cluster ${link.names.clusterName}: the cluster secret of this process is not the one that the cluster was made with; ` +
      "give it the same KINTSUGI_CLUSTER_SECRET or secrets.clusterSecretFile as the others, or another cluster.name to make a new cluster",
  );
}

function checkSettings(link: NatsLink, stored: Stored["settings"], here: ClusterSettings): void {
  const differences = listDifferences(stored, here);
  if (differences.length === 0) return;
  const told = differences.map(
    ({ path, ...values }) => `cluster.${path} (there ${values.stored}, here ${values.here})`,
  );
  throw new StoreError(
    "cluster_mismatch",
    `Cannot join cluster ${link.names.clusterName}: its settings are fixed since it was made, and this process has others: ${told.join("; ")}. ` +
      "Set what stands there, or another cluster.name to make a new cluster",
    { details: { differences: differences.map(({ path }) => path).join(", ") } },
  );
}

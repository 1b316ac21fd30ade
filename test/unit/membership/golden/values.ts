import type { Heartbeat, MemberNews, MemberRecord } from "../../../../src/membership/member-messages.ts";
import type { PinAnnouncement } from "../../../../src/membership/pin-announcement.ts";

const member: MemberRecord = {
  identity: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
  instance: "00112233445566778899aabb",
  address: "10.0.0.7:8100",
  region: "eu",
  zone: "z1",
  weight: 1.5,
  version: "0.1.0",
  draining: true,
  left: false,
  startedAtMs: 1_750_000_000_123,
};

export const MEMBERS: Readonly<Record<string, MemberRecord>> = {
  "a draining node": member,
  "a healer that left": { ...member, address: null, draining: false, left: true },
};

export const NEWS: Readonly<Record<string, MemberNews>> = { "news of a node": { revision: 70_000, member } };

export const HEARTBEATS: Readonly<Record<string, Heartbeat>> = {
  "a heartbeat": {
    instance: "00112233445566778899aabb",
    claim: 12,
    state: "full",
    uptimeMs: 12_345.5,
    load: { cpuPercent: 12.25, rssBytes: 123_456_789 },
    leaving: false,
  },
};

export const PINS: Readonly<Record<string, PinAnnouncement>> = {
  "pins of two blob sets": {
    board: "ffeeddccbbaa998877665544",
    round: 3,
    part: 0,
    parts: 2,
    names: ["01ARZ3NDEKTSV4RRFFQ69G5FAV.body", "01ARZ3NDEKTSV4RRFFQ69G5FAW.cold"],
  },
};

const bucket = {
  strategy: "auto",
  k: 4,
  m: 2,
  replicas: 3,
  consistency: "quorum",
  inlineBytesMax: 512,
  replicationBytesMax: 65_536,
  hybridBytesMin: 16_384,
  hotFields: ["status"],
} as const;

export const SETTINGS = {
  "settings of a cluster": {
    settings: {
      format: 1 as const,
      metadataStreams: 3,
      streamReplicas: 3,
      bucketDefaults: { ...bucket, hotFields: ["status"] },
      buckets: { telemetry: { ...bucket, hotFields: [], k: 2, m: 1 } },
    },
    secretProof: {
      salt: Buffer.from("00".repeat(16), "hex"),
      digest: Buffer.from("ab".repeat(32), "hex"),
      rounds: 100_000,
    },
  },
};

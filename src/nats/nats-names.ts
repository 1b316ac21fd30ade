/**
 * What streams, buckets and subjects are called. Subjects allow few characters, so names of clients' making are encoded;
 * everything inside a cluster stands under its name. What clients see does not, so clusters that share servers have an
 * account each.
 */
import type { BucketName, ObjectKey } from "../domain/ids.ts";
import type { ChangeOp } from "../domain/change-event.ts";

export type NatsNames = ReturnType<typeof natsNamesOf>;

/** `clusterName`: lower-case letters, digits and hyphens. */
export function natsNamesOf(clusterName: string) {
  const streamPrefix = `KINTSUGI_${clusterName.toUpperCase().replaceAll("-", "_")}`;
  const subjectPrefix = `_kintsugi.${clusterName}`;
  return Object.freeze({
    clusterName,
    metadataStream: (index: number) => `${streamPrefix}_META_${index}`,
    /** All subjects of one metadata stream. */
    metadataSubjects: (index: number) => `${subjectPrefix}.meta.${index}.>`,
    recordSubject: (index: number, bucket: BucketName, key: ObjectKey) =>
      `${subjectPrefix}.meta.${index}.record.${encodeToken(bucket)}.${encodeToken(key)}`,
    /** A message here orders a reader behind everything that was committed before. */
    barrierSubject: (index: number) => `${subjectPrefix}.meta.${index}.barrier`,
    /** What a commit tells subscribers, stored with it; one subject per message, so that none replaces another. */
    outboxSubject: (index: number, id: string) => `${subjectPrefix}.meta.${index}.outbox.${id}`,
    outboxSubjects: (index: number) => `${subjectPrefix}.meta.${index}.outbox.*`,
    walStream: `${streamPrefix}_WAL`,
    walSubject: `${subjectPrefix}.wal`,
    workStream: `${streamPrefix}_WORK`,
    /** Pieces of work; of those with the same subject the stream keeps the last. */
    workSubject: (urgency: number, name: string) => `${subjectPrefix}.work.${urgency}.${name}`,
    workSubjects: (urgency: number) => `${subjectPrefix}.work.${urgency}.*`,
    eventsStream: `${streamPrefix}_EVENTS`,
    /** KV buckets. */
    leaseBucket: `kintsugi_${clusterName}_lease`,
    /** Who is there, durable. */
    membersBucket: `kintsugi_${clusterName}_members`,
    settingsBucket: `kintsugi_${clusterName}_settings`,
    /** Controls, jobs and incidents. */
    healingBucket: `kintsugi_${clusterName}_healing`,
    /** Questions to the healer that leads. */
    deskSubject: `${subjectPrefix}.healing.desk`,
    /** Asks every process what its tracks do. */
    tracksSubject: `${subjectPrefix}.healing.tracks`,
    /** Heartbeats and what processes tell each other in passing: core NATS, stored nowhere. */
    heartbeatSubject: (role: string, name: string) => `${subjectPrefix}.heartbeat.${role}.${name}`,
    heartbeatSubjects: `${subjectPrefix}.heartbeat.*.*`,
    /** Asks all processes for a heartbeat at once. */
    whoSubject: `${subjectPrefix}.who`,
    /** The entry of a process in the register, told to all by whoever changed it. */
    memberSubject: (role: string, name: string) => `${subjectPrefix}.member.${role}.${name}`,
    memberSubjects: `${subjectPrefix}.member.*.*`,
    pinsSubject: (name: string) => `${subjectPrefix}.pins.${name}`,
    pinsSubjects: `${subjectPrefix}.pins.*`,
    /** How often a process reads which objects. */
    heatSubject: `${subjectPrefix}.heat`,
  });
}

/** The name of the cluster whose stream of change events this is; null for any other stream. */
export function clusterOfEventsStream(stream: string): string | null {
  const name = /^KINTSUGI_([A-Z0-9_]+)_EVENTS$/.exec(stream)?.[1];
  return name === undefined ? null : name.toLowerCase().replaceAll("_", "-");
}

/** Subject of a change event, part of the interface for clients. A dot in a bucket's name is written `_`, which no bucket has. */
export function eventSubject(bucket: string, op: ChangeOp): string {
  return `kintsugi.events.${bucket.replaceAll(".", "_")}.${op}`;
}

export const EVENT_SUBJECTS = "kintsugi.events.*.*";

export function encodeToken(text: string): string {
  return Buffer.from(text, "utf8").toString("base64url");
}

export function decodeToken(token: string): string {
  return Buffer.from(token, "base64url").toString("utf8");
}

import { Packr } from "msgpackr";
import { StoreError } from "./errors.ts";
import type { ObjectRecord } from "./record.ts";

export const CHANGE_OPS = ["put", "patch", "delete"] as const;
export type ChangeOp = (typeof CHANGE_OPS)[number];

/** A committed change as subscribers get it: JSON, one message each, at least once, in order per key. */
export type ChangeEvent = {
  readonly op: ChangeOp;
  readonly bucket: string;
  readonly key: string;
  readonly version: string;
  /** Rises per key: a subscriber that has seen a higher one has seen a repetition. */
  readonly revision: number;
  readonly sizeBytes: number;
  readonly etag: string;
  readonly contentType: string;
  readonly strategy: string;
  readonly modifiedAtMs: number;
};

/** An event whose commit has no revision yet. */
export type PendingEvent = Omit<ChangeEvent, "revision">;

export function pendingEventOf(record: ObjectRecord, op: ChangeOp): PendingEvent {
  const { bucket, key, version, sizeBytes, etag, contentType, modifiedAtMs, manifest } = record;
  return { op, bucket, key, version, sizeBytes, etag, contentType, strategy: manifest.strategy, modifiedAtMs };
}

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false });

/**
 * The events of commits that are stored in one batch, as one message of that batch. `distance` is how far before this
 * message the record of the event stands in the stream. Layout: version byte, MessagePack of pairs.
 */
export function encodeOutbox(events: readonly (readonly [event: PendingEvent, distance: number])[]): Uint8Array {
  const body = packr.pack(events);
  const bytes = Buffer.allocUnsafe(body.length + 1);
  bytes[0] = FORMAT_VERSION;
  bytes.set(body, 1);
  return bytes;
}

/** The events of an outbox message that stands at `sequence`. @throws {StoreError} `format_unknown` */
export function decodeOutbox(bytes: Uint8Array, sequence: number): ChangeEvent[] {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new StoreError(
      "format_unknown",
      `Cannot read change events of format ${bytes[0]}: this program knows ${FORMAT_VERSION}`,
    );
  }
  const events = packr.unpack(bytes.subarray(1)) as [PendingEvent, number][];
  return events.map(([event, distance]) => ({ ...event, revision: sequence - distance }));
}

/** How often objects are read: counted by each gateway, told to whoever leads, who gives hot objects more copies. */
import { z } from "zod";
import type { BucketName, ObjectKey, VersionId } from "./ids.ts";
import { createMessageCodec } from "./message-codec.ts";

/** Reads of one object in the last `windowMs`, as one process counted them: perhaps a few less than there were, never more. */
export type ObjectHeat = {
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  /** The one that was read last. Reads of those before it count as well: an object stays hot while it is patched. */
  readonly version: VersionId;
  readonly reads: number;
  readonly windowMs: number;
};

export type HeatReport = {
  /** Who counted. */
  readonly process: string;
  /** Its hottest objects, the hottest first. */
  readonly objects: readonly ObjectHeat[];
};

/** With keys of the greatest length a report is still well below what NATS takes in one message. */
export const HEAT_OBJECTS_MAX = 256;

const text = <Text extends string>() => z.custom<Text>((value) => typeof value === "string");
const count = z.number().int().nonnegative();

const reportSchema = z.object({
  process: z.string(),
  objects: z.array(
    z.object({
      bucket: text<BucketName>(),
      key: text<ObjectKey>(),
      version: text<VersionId>(),
      reads: count,
      windowMs: count,
    }),
  ),
});

export const heatReportCodec = createMessageCodec<HeatReport>("a report of reads", reportSchema);

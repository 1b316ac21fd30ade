/** What healing keeps and what its processes say to each other. */
import { z } from "zod";
import { ERROR_CODES } from "../domain/errors.ts";
import type { HealingControls, HealingJob, Incident, TrackReport } from "../domain/healing.ts";
import { JOB_KINDS, TRACKS } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import { createMessageCodec } from "../domain/message-codec.ts";
import type { HealingLedger } from "./healing-ledger.ts";

const count = z.number().nonnegative();
const text = z.string();
const nodeName = z.custom<NodeName>((value) => typeof value === "string");
const track = z.enum(TRACKS);
const jobKind = z.enum(JOB_KINDS);
const figures = z.record(text, z.number());

const controlSchema = z.object({ paused: z.boolean(), bytesPerSecond: count.nullable(), runs: count });
// A track that only a newer process knows is none of ours.
const controlsSchema: z.ZodType<HealingControls> = z.object(
  Object.fromEntries(TRACKS.map((name) => [name, controlSchema.optional()])),
);

export const controlsCodec = createMessageCodec<HealingControls>("the controls of healing", controlsSchema);

const jobSchema: z.ZodType<HealingJob> = z.object({
  id: text,
  kind: jobKind,
  node: nodeName.nullable(),
  state: z.enum(["waiting", "running", "done", "failed"]),
  startedAtMs: z.number(),
  endedAtMs: z.number().nullable(),
  done: count,
  total: count.nullable(),
  unit: text,
  result: figures,
  failure: text.nullable(),
});

const incidentSchema: z.ZodType<Incident> = z.object({
  id: text,
  kind: z.enum(["node_lost", "node_returned", "damage", "on_demand"]),
  node: nodeName.nullable(),
  noticedAtMs: z.number(),
  repairMs: count.nullable(),
  objects: count,
  bytes: count,
});

const memorySchema = z.object({
  instance: text,
  blobCount: count,
  awayMs: count.nullable(),
  isLost: z.boolean(),
  isUnverified: z.boolean(),
});

const ledgerSchema: z.ZodType<HealingLedger> = z.object({
  term: count,
  jobs: z.array(jobSchema),
  incidents: z.array(incidentSchema),
  nodes: z.record(nodeName, memorySchema),
  lacking: figures.nullable(),
});

export const ledgerCodec = createMessageCodec<HealingLedger>("the ledger of healing", ledgerSchema);

/** Nodes of a store in one process that drain. */
export const drainingCodec = createMessageCodec<readonly NodeName[]>("the nodes that drain", z.array(nodeName));

const deskRequestSchema = z.discriminatedUnion("ask", [
  z.object({ ask: z.literal("status") }),
  z.object({ ask: z.literal("start"), kind: jobKind, node: nodeName.nullable() }),
  z.object({ ask: z.literal("job"), id: text }),
  z.object({
    ask: z.literal("control"),
    track,
    change: z.object({ paused: z.boolean().optional(), bytesPerSecond: count.nullable().optional() }),
  }),
  z.object({ ask: z.literal("drain"), node: nodeName, draining: z.boolean() }),
  z.object({ ask: z.literal("remove"), node: nodeName }),
]);
/** What a gateway asks whoever leads. */
export type DeskRequest = Readonly<z.output<typeof deskRequestSchema>>;

export const deskRequestCodec = createMessageCodec<DeskRequest>("a request to the desk", deskRequestSchema);

const deskAnswerSchema = z.union([
  z.object({ value: z.unknown() }),
  z.object({
    failure: z.object({
      // A newer leader may know failures that this process does not.
      code: z.enum(ERROR_CODES).catch("internal"),
      message: text,
      retriable: z.boolean(),
    }),
  }),
]);
export type DeskAnswer = Readonly<z.output<typeof deskAnswerSchema>>;

export const deskAnswerCodec = createMessageCodec<DeskAnswer>("an answer of the desk", deskAnswerSchema);

const reportSchema: z.ZodType<TrackReport> = z.object({
  name: text,
  state: z.enum(["busy", "idle", "throttled", "paused", "failing"]).catch("busy"),
  progress: z.object({ done: z.number(), total: z.number().nullable(), unit: text }).nullable(),
  failure: text.nullable(),
  stepCount: count,
  failureCount: count,
  lastStepAgoMs: count.nullable(),
  track,
  process: text,
  bytesPerSecondMax: count.nullable(),
  paused: z.boolean(),
  figures,
});

const reportsSchema = z.object({ process: text, reports: z.array(reportSchema) });
/** What one process says of its tracks. */
export type TrackReports = Readonly<z.output<typeof reportsSchema>>;

export const reportsCodec = createMessageCodec<TrackReports>("a report of tracks", reportsSchema);

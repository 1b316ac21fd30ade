import { z } from "zod";
import { createMessageCodec } from "../domain/message-codec.ts";
import type { VerifyPosition } from "./verify-node.ts";

/** What a node remembers of its scrub over restarts. */
export type ScrubState = {
  /** Of the run under way; null between runs. */
  readonly position: VerifyPosition | null;
  /** Wall time, for the schedule alone; null before the first run has ended. */
  readonly endedAtMs: number | null;
};

const count = z.number().nonnegative();

export const scrubStateCodec = createMessageCodec<ScrubState>(
  "the state of a scrub",
  z.object({
    position: z.object({ after: z.string(), count, bad: count, bytes: count }).nullable(),
    endedAtMs: z.number().nullable(),
  }),
);

export const NEVER_SCRUBBED: ScrubState = { position: null, endedAtMs: null };

/** What processes of a cluster keep in the register and send each other to say that they are there. */
import { z } from "zod";
import { NODE_STATES } from "../domain/node-info.ts";
import { createMessageCodec } from "../domain/message-codec.ts";

const text = z.string();
const count = z.number().int().nonnegative();

const memberSchema = z.object({
  /** Of its data directory: the same after a restart. */
  identity: text,
  /** Of one start of the process. */
  instance: text,
  address: text.nullable(),
  region: text,
  zone: text,
  weight: z.number().positive(),
  version: text,
  draining: z.boolean(),
  /** It said goodbye: its name is free. */
  left: z.boolean(),
  /** An operator has taken it out of the cluster for good: nobody has that name any more. Absent: no. */
  removed: z.boolean().optional(),
  /** Wall clock of the process; for people. */
  startedAtMs: z.number(),
});
/** The entry of a process in the register, durable. */
export type MemberRecord = Readonly<z.output<typeof memberSchema>>;

export const memberCodec = createMessageCodec<MemberRecord>("an entry of the register of processes", memberSchema);

const newsSchema = z.object({ revision: count, member: memberSchema });
/** An entry that was just written, so that nobody has to read it. */
export type MemberNews = Readonly<z.output<typeof newsSchema>>;

export const newsCodec = createMessageCodec<MemberNews>("news of a process", newsSchema);

const heartbeatSchema = z.object({
  instance: text,
  /** Revision of the register at which this instance took its name: of two that think they have it, the higher one has. */
  claim: count,
  // A newer process may know states that this one does not.
  state: z.enum(NODE_STATES).catch("suspect"),
  uptimeMs: z.number().nonnegative(),
  load: z.record(text, z.number()).catch({}),
  leaving: z.boolean(),
});
export type Heartbeat = Readonly<z.output<typeof heartbeatSchema>>;

export const heartbeatCodec = createMessageCodec<Heartbeat>("a heartbeat", heartbeatSchema);

/**
 * Takes a name in the register of processes. What the register says is decided by its revisions; whether the one who
 * has the name still lives, by whether it is heard.
 *
 * | entry | then |
 * |---|---|
 * | none, or its process said goodbye | taken |
 * | an operator has removed it | `node_removed` |
 * | of the same identity | taken: the data directory is locked, so that process is gone |
 * | of another identity, silent for long | taken |
 * | of another identity, heard twice | `name_taken`; once may be the last breath of one that has just died |
 */
import { StoreError } from "../domain/errors.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { AttendedClock } from "./attended-clock.ts";
import type { MemberRecord } from "./member-messages.ts";
import type { MemberKey } from "./member-view.ts";
import type { NatsMemberRegister, RegisterEntry } from "./nats-member-register.ts";

/** When the process with a name was heard, by its instance. */
export class NameListener {
  readonly #clock: AttendedClock;
  readonly #heard = new Map<string, { count: number; atMs: number }>();

  constructor(clock: AttendedClock) {
    this.#clock = clock;
  }

  /** Begins to listen for the instance, if that has not been done yet. */
  expect(instance: string): { readonly count: number; readonly atMs: number } {
    const known = this.#heard.get(instance) ?? { count: 0, atMs: this.#clock.nowMs() };
    this.#heard.set(instance, known);
    return known;
  }

  hear(instance: string): void {
    const { count } = this.expect(instance);
    this.#heard.set(instance, { count: count + 1, atMs: this.#clock.nowMs() });
  }
}

export type ClaimDeps = {
  readonly clock: Clock;
  readonly attended: AttendedClock;
  readonly register: NatsMemberRegister;
  readonly listener: NameListener;
  /** Asks everyone for a heartbeat. */
  readonly ask: () => void;
};

export type ClaimTiming = {
  readonly heartbeatMs: number;
  /** Silence after which the name of another identity is free. */
  readonly downMs: number;
  /** How long the register may not answer. */
  readonly joinMs: number;
};

/** @throws {StoreError} `name_taken`, `node_removed`, `nats_unavailable` */
export async function claimName(
  deps: ClaimDeps,
  key: MemberKey,
  own: Omit<MemberRecord, "draining" | "left">,
  timing: ClaimTiming,
): Promise<RegisterEntry> {
  const { clock, attended, register, listener, ask } = deps;
  const change = (found: RegisterEntry | null): MemberRecord | null => {
    if (found?.record.removed === true) throw nodeRemoved(key);
    const record = { ...own, draining: found?.record.draining ?? false, left: false };
    if (found === null || found.record.left || found.record.identity === own.identity) return record;
    const heard = listener.expect(found.record.instance);
    if (heard.count >= 2) throw nameTaken(key, found.record);
    return attended.nowMs() - heard.atMs >= timing.downMs ? record : null;
  };
  for (;;) {
    const claimed = await register.change(key, deadlineIn(clock, timing.joinMs), change);
    if (claimed !== null) return claimed;
    // Everyone hears the question, this process too, which shows that it would hear the other one.
    ask();
    await clock.sleep(timing.heartbeatMs / 2);
  }
}

export function nodeRemoved({ role, name }: MemberKey): StoreError {
  return new StoreError(
    "node_removed",
    `The ${role} "${name}" was removed from the cluster: what it holds belongs to nobody any more. Give a new one another name (--name) and an empty data directory`,
    { details: { role, name } },
  );
}

export function nameTaken({ role, name }: MemberKey, holder: MemberRecord): StoreError {
  const since = new Date(holder.startedAtMs).toISOString();
  const where = holder.address === null ? "" : ` at ${holder.address}`;
  return new StoreError(
    "name_taken",
    `The name "${name}" belongs to another ${role}${where}, running since ${since}: stop that one, or give this one a name of its own (--name)`,
    { details: { role, name, address: holder.address, since } },
  );
}

/** The durable register of processes: one entry per role and name, changed by compare-and-set. */
import { isDeepStrictEqual } from "node:util";
import type { KV } from "@nats-io/kv";
import { isStoreError } from "../domain/errors.ts";
import type { ProcessRole } from "../domain/node-info.ts";
import { PROCESS_ROLES } from "../domain/node-info.ts";
import type { Deadline } from "../lib/deadline.ts";
import { listKv, openKv, replaceKv, untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { MemberRecord } from "./member-messages.ts";
import { memberCodec } from "./member-messages.ts";
import type { MemberKey } from "./member-view.ts";

export type RegisterEntry = { readonly key: MemberKey; readonly revision: number; readonly record: MemberRecord };

/** What to do with the entry found: write another, or leave it and give up the change. */
export type EntryChange = (found: RegisterEntry | null) => MemberRecord | null;

export class NatsMemberRegister {
  readonly #link: NatsLink;
  readonly #kv: KV;

  private constructor(link: NatsLink, kv: KV) {
    this.#link = link;
    this.#kv = kv;
  }

  /** @throws {StoreError} `nats_unavailable` */
  static async open(link: NatsLink): Promise<NatsMemberRegister> {
    return new NatsMemberRegister(link, await openKv(link, link.names.membersBucket));
  }

  /** Every entry, as some replica knows them. Throws what NATS throws. */
  async list(): Promise<RegisterEntry[]> {
    const entries = await listKv(this.#link, this.#link.names.membersBucket);
    return entries.flatMap(({ key, revision, value }) => {
      const [role = "", name = ""] = key.split(".");
      const record = this.#decode(key, value);
      return isRole(role) && record !== null ? [{ key: { role, name }, revision, record }] : [];
    });
  }

  /** The entry as the leader knows it. @throws {StoreError} `nats_unavailable`, `format_unknown` */
  async read(key: MemberKey, deadline: Deadline): Promise<RegisterEntry | null> {
    return await untilAnswered(this.#link, deadline, `read the register of processes`, () => this.#read(key));
  }

  /**
   * Changes the entry, atomically, as often as others are faster. The entry afterwards, or null when `change` gave up.
   * Sure of its outcome: a write that seemed to fail is looked at again, and counts if it has arrived.
   * @throws {StoreError} `nats_unavailable`, and what `change` throws
   */
  async change(key: MemberKey, deadline: Deadline, change: EntryChange): Promise<RegisterEntry | null> {
    let attempted: MemberRecord | null = null;
    return await untilAnswered(this.#link, deadline, `change the register of processes`, async () => {
      const found = await this.#read(key);
      if (found !== null && isDeepStrictEqual(found.record, attempted)) return found;
      attempted = change(found);
      if (attempted === null) return null;
      const revision = await replaceKv(this.#kv, keyOf(key), memberCodec.encode(attempted), found?.revision ?? 0);
      if (revision === null) throw new Error("others are faster");
      return { key, revision, record: attempted };
    });
  }

  /** Removes an entry if it is still at `revision`. Whether it worked does not matter to anyone. */
  async remove(key: MemberKey, revision: number): Promise<void> {
    await this.#kv.purge(keyOf(key), { previousSeq: revision }).catch(() => {});
  }

  async #read(key: MemberKey): Promise<RegisterEntry | null> {
    const entry = await this.#kv.get(keyOf(key));
    if (entry === null || entry.operation !== "PUT") return null;
    return { key, revision: entry.revision, record: memberCodec.decode(entry.value) };
  }

  #decode(key: string, value: Uint8Array): MemberRecord | null {
    try {
      return memberCodec.decode(value);
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      this.#link.logger.warn({ key, cause: cause.message }, "an entry of the register of processes was left out");
      return null;
    }
  }
}

function keyOf({ role, name }: MemberKey): string {
  return `${role}.${name}`;
}

function isRole(text: string): text is ProcessRole {
  return (PROCESS_ROLES as readonly string[]).includes(text);
}

/** What processes say to each other in passing, over core NATS: stored nowhere, and lost where nobody listens. */
import type { Msg, Subscription } from "@nats-io/transport-node";
import type { StoreError } from "../domain/errors.ts";
import { isStoreError } from "../domain/errors.ts";
import { PROCESS_ROLES } from "../domain/node-info.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { AttendedClock } from "./attended-clock.ts";
import type { Heartbeat, MemberRecord } from "./member-messages.ts";
import { heartbeatCodec, newsCodec } from "./member-messages.ts";
import type { MemberKey } from "./member-view.ts";

export type MemberEars = {
  /** Of this process too. */
  readonly onHeartbeat: (key: MemberKey, heartbeat: Heartbeat) => void;
  /** An entry of the register that was just written. */
  readonly onNews: (key: MemberKey, revision: number, record: MemberRecord) => void;
  /** Somebody wants a heartbeat of everyone. */
  readonly onQuestion: () => void;
};

const UNREADABLE_TOLD_MAX = 256;

export class NatsMemberChannel {
  readonly #link: NatsLink;
  readonly #attended: AttendedClock;
  readonly #subscriptions: Subscription[] = [];
  readonly #unreadable = new Set<string>();

  /** `attended` runs with what arrives here, whatever it is: it proves that others would be heard too. */
  constructor(link: NatsLink, attended: AttendedClock) {
    this.#link = link;
    this.#attended = attended;
  }

  listen({ onHeartbeat, onNews, onQuestion }: MemberEars): void {
    const { names } = this.#link;
    this.#on(names.heartbeatSubjects, ({ subject, data }) => {
      const key = senderOf(subject);
      if (key !== null) onHeartbeat(key, heartbeatCodec.decode(data));
    });
    this.#on(names.memberSubjects, ({ subject, data }) => {
      const key = senderOf(subject);
      const { revision, member } = newsCodec.decode(data);
      if (key !== null) onNews(key, revision, member);
    });
    this.#on(names.whoSubject, onQuestion);
  }

  sendHeartbeat({ role, name }: MemberKey, heartbeat: Heartbeat): void {
    this.#send(this.#link.names.heartbeatSubject(role, name), heartbeatCodec.encode(heartbeat));
  }

  sendNews({ role, name }: MemberKey, revision: number, member: MemberRecord): void {
    this.#send(this.#link.names.memberSubject(role, name), newsCodec.encode({ revision, member }));
  }

  ask(): void {
    this.#send(this.#link.names.whoSubject, new Uint8Array());
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  /** What is said while the connection is lost is sent when there is another one; when it was ended, never. */
  #send(subject: string, bytes: Uint8Array): void {
    if (!this.#link.connection.isClosed()) this.#link.connection.publish(subject, bytes);
  }

  #on(subject: string, receive: (message: Msg) => void): void {
    const callback = (failure: Error | null, message: Msg) => {
      if (failure !== null) {
        this.#link.logger.error({ subject, cause: failure.message }, "cannot hear other processes");
        return;
      }
      this.#attended.arrive();
      try {
        receive(message);
      } catch (cause) {
        if (!isStoreError(cause, "format_unknown")) throw cause;
        this.#tellUnreadable(message.subject, cause);
      }
    };
    this.#subscriptions.push(this.#link.connection.subscribe(subject, { callback }));
  }

  #tellUnreadable(subject: string, cause: StoreError): void {
    if (this.#unreadable.has(subject) || this.#unreadable.size >= UNREADABLE_TOLD_MAX) return;
    this.#unreadable.add(subject);
    this.#link.logger.warn({ subject, cause: cause.message }, "a process says what this one does not understand");
  }
}

/** Null for a role that this version does not know. */
function senderOf(subject: string): MemberKey | null {
  const [said = "", name = ""] = subject.split(".").slice(-2);
  const role = PROCESS_ROLES.find((known) => known === said);
  return role === undefined ? null : { role, name };
}

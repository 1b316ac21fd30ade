/**
 * Who is there, over NATS. A durable register says which processes exist; heartbeats, stored nowhere, say how they are.
 * A process holds its name as long as the register names its instance: whoever finds another one there has lost it.
 */
import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import { parseNodeName } from "../domain/ids.ts";
import type { NodeInfo, NodeState, ProcessInfo, ProcessRole } from "../domain/node-info.ts";
import { AssertionError } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import { untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { AttendedClock } from "./attended-clock.ts";
import type { Heartbeat } from "./member-messages.ts";
import type { MemberKey } from "./member-view.ts";
import { MemberView } from "./member-view.ts";
import type { Membership } from "./membership.ts";
import { NatsMemberChannel } from "./nats-member-channel.ts";
import { claimName, NameListener, nameTaken, nodeRemoved } from "./nats-member-claim.ts";
import type { RegisterEntry } from "./nats-member-register.ts";
import { NatsMemberRegister } from "./nats-member-register.ts";
import type { HealthRules } from "./node-health.ts";
import { HEALTH_RULES } from "./node-health.ts";

export type MemberSelf = {
  readonly name: string;
  readonly role: ProcessRole;
  /** Survives restarts on the same data directory, which is locked: whoever shows it proves that the former process is gone. */
  readonly identity: string;
  /** `host:port` of its HTTP door, or null. */
  readonly address: string | null;
  readonly region: string;
  readonly zone: string;
  readonly weight: number;
  readonly version: string;
  /** Asked before every heartbeat; figures that are no finite numbers are left out. */
  readonly describe: () => { readonly state: NodeState; readonly load: Readonly<Record<string, number>> };
};

export type MembershipOptions = HealthRules & {
  readonly heartbeatMs: number;
  /** How often the register is read again, for what was said while nobody here listened. */
  readonly registerMs: number;
  /** How long joining waits for a register that does not answer. */
  readonly joinMs: number;
};

export type NatsMembership = Membership & {
  /** Where a node's data plane listens, or null while that is not known. */
  addressOf(node: NodeName): string | null;
  /**
   * Marks a node as draining or back in service, for all processes; durable when it resolves.
   * @throws {StoreError} `parameter_invalid` for a node that was never there, `nats_unavailable`
   */
  setDraining(node: NodeName, draining: boolean): Promise<void>;
  /**
   * Takes a node out of the cluster for good: it is known no more, and refused when it comes back. Durable.
   * @throws {StoreError} `parameter_invalid` for a node that was never there, `nats_unavailable`
   */
  removeNode(node: NodeName): Promise<void>;
  /** Resolves with `node_removed`, or with `name_taken` when another process has this one's name. Its holder must stop then; until closed it goes on watching. */
  readonly lost: Promise<StoreError>;
};

const DEFAULTS: MembershipOptions = { ...HEALTH_RULES, heartbeatMs: 1_000, registerMs: 5_000, joinMs: 30_000 };

/** Answers to one question are spread over this time, and questions within it answered together. */
const ANSWER_MS_MAX = 20;
const REFRESH_SOON_MS = 100;
const WRITE_MS = 10_000;
const GOODBYE_MS = 2_000;

/**
 * Takes the process's name and waits until everyone known was heard, at most one and a half heartbeats. Gone silent
 * without `close`, its name is free for another data directory after `downMs`.
 * @throws {StoreError} `name_taken`, `nats_unavailable` (retriable), `config_invalid` for a name that cannot be one
 */
export async function joinNatsMembership(
  link: NatsLink,
  self: MemberSelf,
  options: Partial<MembershipOptions> = {},
): Promise<NatsMembership> {
  parseNodeName(self.name);
  const membership = new RunningMembership(link, self, { ...DEFAULTS, ...options });
  try {
    await membership.join();
    return membership;
  } catch (cause) {
    await membership.close();
    throw cause;
  }
}

class RunningMembership implements NatsMembership {
  readonly lost: Promise<StoreError>;
  readonly #link: NatsLink;
  readonly #self: MemberSelf;
  readonly #key: MemberKey;
  readonly #timing: MembershipOptions;
  readonly #attended: AttendedClock;
  readonly #view: MemberView;
  readonly #listener: NameListener;
  readonly #instance: string;
  readonly #startedAtMs: number;
  readonly #timers = new Map<string, Timer>();
  readonly #channel: NatsMemberChannel;
  readonly #lose: (cause: StoreError) => void;
  #register: NatsMemberRegister | null = null;
  /** Revision at which this instance took its name; 0 while it has not, or has no more. */
  #claim = 0;
  #closed = false;
  #onHeard = () => {};

  constructor(link: NatsLink, self: MemberSelf, timing: MembershipOptions) {
    this.#link = link;
    this.#self = self;
    this.#key = { role: self.role, name: self.name };
    this.#timing = timing;
    // What it sends itself arrives once per heartbeat, so after two without anything it hears nothing at all.
    this.#attended = new AttendedClock(link.clock, 2 * timing.heartbeatMs);
    this.#channel = new NatsMemberChannel(link, this.#attended);
    this.#view = new MemberView(this.#attended, timing);
    this.#listener = new NameListener(this.#attended);
    this.#instance = Buffer.from(link.random.bytes(12)).toString("hex");
    this.#startedAtMs = link.clock.monotonicMs();
    ({ promise: this.lost, resolve: this.#lose } = Promise.withResolvers<StoreError>());
  }

  async join(): Promise<void> {
    const { clock } = this.#link;
    const { heartbeatMs, joinMs } = this.#timing;
    const register = await NatsMemberRegister.open(this.#link);
    this.#register = register;
    this.#channel.listen({
      onHeartbeat: (key, heartbeat) => this.#hear(key, heartbeat),
      onNews: (key, revision, record) => this.#learn({ key, revision, record }),
      onQuestion: () => this.#after("answer", this.#link.random.next() * ANSWER_MS_MAX, () => this.#beat()),
    });
    const soon = deadlineIn(clock, joinMs);
    // Known first, so that the heartbeats that answer the question mean something.
    const entries = await untilAnswered(this.#link, soon, "list the processes", () => register.list());
    for (const { key, revision, record } of entries) this.#view.learn(key, revision, record);
    const complete = this.#untilComplete(heartbeatMs * 1.5);
    this.#channel.ask();
    const { identity, address, region, zone, weight, version } = this.#self;
    const own = { identity, instance: this.#instance, address, region, zone, weight, version };
    const claimed = await claimName(
      { clock, attended: this.#attended, register, listener: this.#listener, ask: () => this.#channel.ask() },
      this.#key,
      { ...own, startedAtMs: clock.wallMs() },
      this.#timing,
    );
    this.#claim = claimed.revision;
    this.#tell(claimed);
    this.#beat();
    this.#onHeard();
    await complete;
    this.#repeat("look", heartbeatMs / 4, () => this.#look());
    this.#repeat("refresh", this.#timing.registerMs, () => this.#refresh());
  }

  snapshot(): readonly NodeInfo[] {
    return this.#view.snapshot();
  }

  processes(): readonly ProcessInfo[] {
    return this.#view.processes();
  }

  addressOf(node: NodeName): string | null {
    return this.#view.find({ role: "node", name: node })?.record.address ?? null;
  }

  report(node: NodeName, state: NodeState): void {
    this.#view.report(node, state);
  }

  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void {
    return this.#view.watch(listener);
  }

  async setDraining(node: NodeName, draining: boolean): Promise<void> {
    const deadline = deadlineIn(this.#link.clock, WRITE_MS);
    const changed = await this.#register?.change({ role: "node", name: node }, deadline, (found) => {
      if (found === null) throw new StoreError("parameter_invalid", `No node is called "${node}"`);
      return found.record.draining === draining ? null : { ...found.record, draining };
    });
    if (changed) this.#tell(changed);
  }

  async removeNode(node: NodeName): Promise<void> {
    const deadline = deadlineIn(this.#link.clock, WRITE_MS);
    const changed = await this.#register?.change({ role: "node", name: node }, deadline, (found) => {
      if (found === null) throw new StoreError("parameter_invalid", `No node is called "${node}"`);
      return found.record.removed === true ? null : { ...found.record, removed: true };
    });
    if (changed) this.#tell(changed);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers.values()) timer.cancel();
    if (this.#claim !== 0) await this.#sayGoodbye();
    this.#channel.close();
    this.#view.unwatchAll();
  }

  #hear(key: MemberKey, heartbeat: Heartbeat): void {
    if (heartbeat.instance === this.#instance) return;
    const isNamesake = key.role === this.#key.role && key.name === this.#key.name;
    if (isNamesake) this.#listener.hear(heartbeat.instance);
    if (!this.#view.hear(key, heartbeat)) this.#after("refreshSoon", REFRESH_SOON_MS, () => this.#refresh());
    this.#onHeard();
  }

  #learn({ key, revision, record }: RegisterEntry): void {
    this.#view.learn(key, revision, record);
    const isNamesake = key.role === this.#key.role && key.name === this.#key.name;
    if (!isNamesake || this.#claim === 0) return;
    // Revisions below the claim are what the register said before.
    if (record.removed === true && revision > this.#claim) {
      this.#claim = 0;
      return this.#lose(nodeRemoved(key));
    }
    if (record.instance === this.#instance || revision < this.#claim) return;
    this.#claim = 0;
    this.#lose(nameTaken(key, record));
  }

  #look(): void {
    if (!this.#attended.isDeaf()) this.#view.refresh();
  }

  async #refresh(): Promise<void> {
    const register = this.#register;
    if (register === null || this.#closed) return;
    try {
      const entries = await register.list();
      for (const entry of entries) this.#learn(entry);
      if (!entries.some(({ key }) => key.role === this.#key.role && key.name === this.#key.name)) {
        await this.#enterAgain(register);
      }
      for (const { key, revision } of this.#view.forgetGone()) await register.remove(key, revision);
    } catch (cause) {
      if (cause instanceof AssertionError) throw cause;
      this.#link.logger.debug(
        { cause: String(cause) },
        "the register of processes could not be read; it will be again",
      );
    }
  }

  /** Others forget a process that is silent for very long, as one is that was stopped for an hour. */
  async #enterAgain(register: NatsMemberRegister): Promise<void> {
    const record = this.#view.find(this.#key)?.record;
    if (this.#claim === 0 || this.#closed || record === undefined) return;
    const deadline = deadlineIn(this.#link.clock, this.#timing.registerMs);
    const entered = await register.change(this.#key, deadline, (found) => (found === null ? record : null));
    if (entered === null) return;
    this.#claim = entered.revision;
    this.#tell(entered);
  }

  /** Sends a heartbeat, and the next one in due time. */
  #beat(): void {
    if (this.#claim === 0) return;
    this.#sendHeartbeat({ leaving: false });
    this.#after("beat", this.#timing.heartbeatMs, () => this.#beat());
  }

  #sendHeartbeat({ leaving }: Pick<Heartbeat, "leaving">): void {
    const { state, load } = this.#self.describe();
    const figures = Object.entries(load).filter(([, figure]) => Number.isFinite(figure));
    const heartbeat: Heartbeat = {
      instance: this.#instance,
      claim: this.#claim,
      uptimeMs: Math.round(this.#link.clock.monotonicMs() - this.#startedAtMs),
      load: Object.fromEntries(figures),
      ...{ state, leaving },
    };
    this.#view.hear(this.#key, heartbeat);
    this.#channel.sendHeartbeat(this.#key, heartbeat);
  }

  /** Takes an entry that was just written and spares the others a look at the register. */
  #tell(entry: RegisterEntry): void {
    this.#learn(entry);
    this.#channel.sendNews(entry.key, entry.revision, entry.record);
  }

  async #sayGoodbye(): Promise<void> {
    const { clock, connection } = this.#link;
    const deadline = deadlineIn(clock, GOODBYE_MS);
    try {
      this.#sendHeartbeat({ leaving: true });
      const left = await this.#register?.change(this.#key, deadline, (found) =>
        found?.record.instance === this.#instance ? { ...found.record, left: true } : null,
      );
      this.#claim = 0;
      if (left) this.#tell(left);
      const late = () => new StoreError("nats_unavailable", "The last words may not have been heard");
      await withDeadline(clock, deadline, connection.flush(), late);
    } catch (cause) {
      // Others find out by its silence.
      this.#link.logger.debug({ cause: String(cause) }, "could not say goodbye to the other processes");
    }
  }

  #untilComplete(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        this.#timers.get("complete")?.cancel();
        this.#onHeard = () => {};
        resolve();
      };
      this.#after("complete", waitMs, finish);
      this.#onHeard = () => {
        if (this.#claim !== 0 && this.#view.isComplete()) finish();
      };
    });
  }

  /** Runs `action` once, unless one of that name already waits. */
  #after(name: string, delayMs: number, action: () => void | Promise<void>): void {
    if (this.#closed || this.#timers.has(name)) return;
    const timer = this.#link.clock.startTimer(delayMs, () => {
      this.#timers.delete(name);
      void action();
    });
    this.#timers.set(name, timer);
  }

  #repeat(name: string, periodMs: number, action: () => void | Promise<void>): void {
    this.#after(name, periodMs, async () => {
      await action();
      this.#repeat(name, periodMs, action);
    });
  }
}

/**
 * One process's picture of all others: what the register says of them, and how they have been lately. Holds no timer and
 * no connection; whoever feeds it decides when to look again.
 */
import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo, NodeState, ProcessInfo, ProcessRole } from "../domain/node-info.ts";
import { PROCESS_ROLES } from "../domain/node-info.ts";
import type { AttendedClock } from "./attended-clock.ts";
import type { Heartbeat, MemberRecord } from "./member-messages.ts";
import type { HealthEvent, HealthRules, NodeHealth } from "./node-health.ts";
import { afterEvent, nodeStateOf, processStateOf, unheard, worstOf } from "./node-health.ts";

export type MemberKey = { readonly role: ProcessRole; readonly name: string };

type Member = MemberKey & {
  record: MemberRecord;
  /** Of the register, when the record was written. */
  revision: number;
  health: NodeHealth;
  uptimeMs: number;
  load: Readonly<Record<string, number>>;
};

export class MemberView {
  readonly #clock: AttendedClock;
  readonly #rules: HealthRules;
  readonly #members = new Map<string, Member>();
  /** By an operator, for good. */
  readonly #removed = new Set<string>();
  readonly #listeners = new Set<(nodes: readonly NodeInfo[]) => void>();
  #nodes: readonly NodeInfo[] = Object.freeze([]);

  constructor(clock: AttendedClock, rules: HealthRules) {
    this.#clock = clock;
    this.#rules = rules;
  }

  /** Takes an entry of the register; one that is older than what is known changes nothing. */
  learn(key: MemberKey, revision: number, record: MemberRecord): void {
    const known = this.#members.get(idOf(key));
    if (record.removed === true) {
      if (known !== undefined && revision > known.revision) this.#members.delete(idOf(key));
      this.#removed.add(idOf(key));
      this.refresh();
      return;
    }
    if (known === undefined) {
      const health = unheard(this.#clock.nowMs());
      this.#members.set(idOf(key), { ...key, record, revision, health, uptimeMs: 0, load: {} });
    } else if (revision > known.revision) {
      if (record.instance !== known.record.instance) this.#apply(known, { kind: "replaced" });
      Object.assign(known, { record, revision });
    } else {
      return;
    }
    if (record.left) this.#apply(this.#members.get(idOf(key)) as Member, { kind: "left" });
    this.refresh();
  }

  /** False when the register must know more of the sender than this view does. */
  hear(key: MemberKey, heartbeat: Heartbeat): boolean {
    const member = this.#members.get(idOf(key));
    if (member === undefined) return this.#removed.has(idOf(key));
    if (heartbeat.instance !== member.record.instance) {
      // Somebody who lost the name to the one known here has just not noticed yet.
      return heartbeat.claim <= member.revision;
    }
    const { state, uptimeMs, load, leaving } = heartbeat;
    this.#apply(member, leaving ? { kind: "left" } : { kind: "heartbeat", state });
    Object.assign(member, { uptimeMs, load });
    this.refresh();
    return true;
  }

  report(node: NodeName, state: NodeState): void {
    const member = this.#members.get(idOf({ role: "node", name: node }));
    if (member === undefined) return;
    this.#apply(member, { kind: "report", state });
    this.refresh();
  }

  /**
   * Forgets gateways and healers that have been silent for as long as a node may be before it is gone: they keep
   * nothing. The entries that may go from the register.
   */
  forgetGone(): { readonly key: MemberKey; readonly revision: number }[] {
    const nowMs = this.#clock.nowMs();
    const gone = [...this.#members.values()].filter(
      ({ role, health }) => role !== "node" && nowMs - health.heardAtMs >= this.#rules.goneMs,
    );
    for (const member of gone) this.#members.delete(idOf(member));
    return gone.map(({ role, name, revision }) => ({ key: { role, name }, revision }));
  }

  find(key: MemberKey): { readonly record: MemberRecord; readonly revision: number } | null {
    return this.#members.get(idOf(key)) ?? null;
  }

  /** True when everyone that did not say goodbye has sent a heartbeat. */
  isComplete(): boolean {
    return [...this.#members.values()].every(({ health }) => health.hasLeft || health.ownState !== "suspect");
  }

  snapshot(): readonly NodeInfo[] {
    return this.#nodes;
  }

  processes(): readonly ProcessInfo[] {
    const nowMs = this.#clock.nowMs();
    return [...this.#members.values()]
      .map(({ role, name, record, health, uptimeMs, load }) => ({
        ...{ role, name, uptimeMs, load },
        state: processStateOf(health, nowMs, this.#rules),
        instance: record.instance,
        address: record.address,
        region: record.region,
        zone: record.zone,
        version: record.version,
        silentMs: Math.round(nowMs - health.heardAtMs),
      }))
      .sort((a, b) => PROCESS_ROLES.indexOf(a.role) - PROCESS_ROLES.indexOf(b.role) || compareNames(a, b));
  }

  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void {
    const own = (nodes: readonly NodeInfo[]) => listener(nodes);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  unwatchAll(): void {
    this.#listeners.clear();
  }

  /** Looks at the clock again, and tells the listeners if a node is different from before. */
  refresh(): void {
    const nodes = [...this.#members.values()]
      .filter(({ role }) => role === "node")
      .map((member) => this.#infoOf(member))
      .sort(compareNames);
    if (nodes.length === this.#nodes.length && nodes.every((node, n) => isSameNode(node, this.#nodes[n]))) return;
    this.#nodes = Object.freeze(nodes);
    for (const listener of this.#listeners) listener(this.#nodes);
  }

  #apply(member: Member, event: HealthEvent): void {
    member.health = afterEvent(member.health, event, this.#clock.nowMs(), this.#rules);
  }

  #infoOf({ name, record, health }: Member): NodeInfo {
    const { region, zone, weight, draining } = record;
    const state = worstOf([nodeStateOf(health, this.#clock.nowMs(), this.#rules), draining ? "draining" : "live"]);
    return Object.freeze({ name: name as NodeName, state, region, zone, weight });
  }
}

function idOf({ role, name }: MemberKey): string {
  return `${role}.${name}`;
}

function compareNames(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function isSameNode(a: NodeInfo, b: NodeInfo | undefined): boolean {
  return (
    b !== undefined &&
    a.name === b.name &&
    a.state === b.state &&
    a.region === b.region &&
    a.zone === b.zone &&
    a.weight === b.weight
  );
}

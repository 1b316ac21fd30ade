/**
 * What one process knows of another's health: silence, what it says of itself, and what requests to it have met. Pure:
 * the same events at the same moments give the same state. The worst opinion counts.
 *
 * | opinion | speaks from | until |
 * |---|---|---|
 * | silence: suspect, down, gone | a while after the last heartbeat | the next one |
 * | it left: down | its goodbye | the next heartbeat |
 * | its own: live, full, fenced … | each heartbeat | the next one |
 * | reported: full, fenced, suspect | a request that met it | the next heartbeat, or a report of "live" |
 * | breaker: down | a failed request | its time is up, or a report of "live", or another process takes the name |
 *
 * A heartbeat does not close the breaker: a node may send them and still hang on every request. After its time the
 * breaker is half open: the node is tried again, and one failure opens it for twice as long.
 */
import type { NodeState, ProcessInfo } from "../domain/node-info.ts";
import { NODE_STATES } from "../domain/node-info.ts";

export type HealthRules = {
  /** Silences, in milliseconds. */
  readonly suspectMs: number;
  readonly downMs: number;
  readonly goneMs: number;
  /** The first opening of the breaker and the longest. */
  readonly breakerMsMin: number;
  readonly breakerMsMax: number;
  /** Time without a failure after which a breaker begins anew with its first opening. */
  readonly breakerForgetMs: number;
};

export const HEALTH_RULES: HealthRules = {
  suspectMs: 3_000,
  downMs: 8_000,
  goneMs: 3_600_000,
  breakerMsMin: 1_000,
  breakerMsMax: 8_000,
  breakerForgetMs: 30_000,
};

export type NodeHealth = {
  /** The last heartbeat, or when this process began to listen for one. */
  readonly heardAtMs: number;
  readonly hasLeft: boolean;
  /** What it said last; `suspect` before it said anything. */
  readonly ownState: NodeState;
  readonly reported: NodeState | null;
  /** Openings of the breaker without a success in between. */
  readonly openings: number;
  readonly openUntilMs: number;
};

export type HealthEvent =
  | { readonly kind: "heartbeat"; readonly state: NodeState }
  | { readonly kind: "left" }
  /** Another process has the name now: nothing learnt of the former one holds. */
  | { readonly kind: "replaced" }
  /** A caller met this state. */
  | { readonly kind: "report"; readonly state: NodeState };

export function unheard(nowMs: number): NodeHealth {
  return { heardAtMs: nowMs, hasLeft: false, ownState: "suspect", reported: null, openings: 0, openUntilMs: nowMs };
}

export function afterEvent(health: NodeHealth, event: HealthEvent, nowMs: number, rules: HealthRules): NodeHealth {
  switch (event.kind) {
    case "heartbeat":
      return { ...health, heardAtMs: nowMs, hasLeft: false, ownState: event.state, reported: null };
    case "left":
      return { ...health, hasLeft: true };
    case "replaced":
      return unheard(nowMs);
    case "report":
      return afterReport(health, event.state, nowMs, rules);
  }
}

export function nodeStateOf(health: NodeHealth, nowMs: number, rules: HealthRules): NodeState {
  const breaker = isOpen(health, nowMs) ? "down" : "live";
  const silence = silenceOf(health, nowMs, rules);
  return worstOf([silence, health.hasLeft ? "down" : "live", health.ownState, health.reported ?? "live", breaker]);
}

/** As `ProcessInfo` tells it: silence alone, whatever requests met. */
export function processStateOf(health: NodeHealth, nowMs: number, rules: HealthRules): ProcessInfo["state"] {
  const silence = silenceOf(health, nowMs, rules);
  if (health.hasLeft || silence === "down" || silence === "gone") return "down";
  return silence === "suspect" || health.ownState === "suspect" ? "suspect" : "live";
}

/** `NODE_STATES` stand in the order of what a node is still good for. */
export function worstOf(states: readonly NodeState[]): NodeState {
  return states.reduce((worst, state) => (NODE_STATES.indexOf(state) > NODE_STATES.indexOf(worst) ? state : worst));
}

function afterReport(health: NodeHealth, state: NodeState, nowMs: number, rules: HealthRules): NodeHealth {
  switch (state) {
    case "live":
      return { ...health, reported: null, openings: 0, openUntilMs: nowMs };
    case "full":
    case "fenced":
    case "suspect":
      return { ...health, reported: state };
    case "down":
      return openBreaker(health, nowMs, rules);
    case "draining":
    case "gone":
      // No request can meet these: the one is an operator's wish, the other a matter of hours.
      return health;
  }
}

function openBreaker(health: NodeHealth, nowMs: number, rules: HealthRules): NodeHealth {
  // Many requests fail together: those that come after the first say nothing new.
  if (isOpen(health, nowMs)) return health;
  const openings = nowMs - health.openUntilMs > rules.breakerForgetMs ? 1 : health.openings + 1;
  const openMs = Math.min(rules.breakerMsMax, rules.breakerMsMin * 2 ** (openings - 1));
  return { ...health, openings, openUntilMs: nowMs + openMs };
}

function isOpen(health: NodeHealth, nowMs: number): boolean {
  return nowMs < health.openUntilMs;
}

function silenceOf({ heardAtMs }: NodeHealth, nowMs: number, rules: HealthRules): NodeState {
  const silentMs = nowMs - heardAtMs;
  if (silentMs >= rules.goneMs) return "gone";
  if (silentMs >= rules.downMs) return "down";
  return silentMs >= rules.suspectMs ? "suspect" : "live";
}

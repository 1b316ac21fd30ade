import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo, NodeState, ProcessInfo } from "../domain/node-info.ts";
import type { Membership } from "./membership.ts";
import { worstOf } from "./node-health.ts";

export type StaticMembership = Membership & {
  /** What its node reports goes on to count where it is worse. Kept by nobody: the caller remembers it. */
  setDraining(node: NodeName, draining: boolean): void;
};

/** A fixed list of nodes, in the order given. Their states are what callers report, or draining where that was set. */
export function createStaticMembership(nodes: readonly NodeInfo[]): StaticMembership {
  return new FixedMembership(nodes);
}

class FixedMembership implements StaticMembership {
  readonly #listeners = new Set<(nodes: readonly NodeInfo[]) => void>();
  readonly #reported: Map<NodeName, NodeState>;
  readonly #draining = new Set<NodeName>();
  #nodes: readonly NodeInfo[];

  constructor(nodes: readonly NodeInfo[]) {
    this.#nodes = Object.freeze(nodes.map((node) => Object.freeze({ ...node })));
    this.#reported = new Map(nodes.map(({ name, state }) => [name, state]));
  }

  snapshot(): readonly NodeInfo[] {
    return this.#nodes;
  }

  processes(): readonly ProcessInfo[] {
    return [];
  }

  report(name: NodeName, state: NodeState): void {
    if (!this.#reported.has(name)) return;
    this.#reported.set(name, state);
    this.#refresh(name);
  }

  setDraining(name: NodeName, draining: boolean): void {
    if (draining) this.#draining.add(name);
    else this.#draining.delete(name);
    this.#refresh(name);
  }

  #refresh(name: NodeName): void {
    const reported = this.#reported.get(name) ?? "down";
    const state = worstOf([reported, this.#draining.has(name) ? "draining" : "live"]);
    if (!this.#nodes.some((node) => node.name === name && node.state !== state)) return;
    const nodes = this.#nodes.map((node) => (node.name === name ? Object.freeze({ ...node, state }) : node));
    this.#nodes = Object.freeze(nodes);
    for (const listener of this.#listeners) listener(this.#nodes);
  }

  watch(listener: (nodes: readonly NodeInfo[]) => void): () => void {
    const own = (nodes: readonly NodeInfo[]) => listener(nodes);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
  }
}

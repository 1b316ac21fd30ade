import type { NodeName } from "../domain/ids.ts";
import type { NodeInfo, NodeState, ProcessInfo } from "../domain/node-info.ts";
import type { Membership } from "./membership.ts";

/** A fixed list of nodes, in the order given. Their states are what callers report. */
export function createStaticMembership(nodes: readonly NodeInfo[]): Membership {
  return new StaticMembership(nodes);
}

class StaticMembership implements Membership {
  readonly #listeners = new Set<(nodes: readonly NodeInfo[]) => void>();
  #nodes: readonly NodeInfo[];

  constructor(nodes: readonly NodeInfo[]) {
    this.#nodes = Object.freeze(nodes.map((node) => Object.freeze({ ...node })));
  }

  snapshot(): readonly NodeInfo[] {
    return this.#nodes;
  }

  processes(): readonly ProcessInfo[] {
    return [];
  }

  report(name: NodeName, state: NodeState): void {
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

import type { NodeName } from "../domain/ids.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import type { Clock } from "../lib/clock.ts";

/** What is not remembered is watched anew from the next audit on: later, never sooner. */
const WATCHED_MAX = 500_000;

/**
 * Remembers since when blobs are known to be nobody's: by this process's own clock, from audit to audit. A new leader
 * begins anew. One audit alone proves nothing, since it does not see everything at one moment.
 */
export class OrphanWatch {
  readonly #clock: Clock;
  readonly #graceMs: number;
  #sinceMs = new Map<string, number>();
  /** Seen by the audit under way. */
  #seen = new Map<string, number>();

  constructor(clock: Clock, graceMs: number) {
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  get count(): number {
    return this.#sinceMs.size;
  }

  /** Takes blobs that an audit found; those of them that were known to be nobody's for the whole grace period. */
  see(orphans: readonly PlacedBlob[]): PlacedBlob[] {
    const nowMs = this.#clock.monotonicMs();
    return orphans.filter((blob) => {
      const name = nameOf(blob);
      const sinceMs = this.#sinceMs.get(name) ?? nowMs;
      if (this.#seen.size < WATCHED_MAX) this.#seen.set(name, sinceMs);
      return nowMs - sinceMs >= this.#graceMs && this.#sinceMs.has(name);
    });
  }

  /** Ends an audit that has seen all blobs of `nodes`: what it did not find there is nobody's no more. */
  endAudit(nodes: ReadonlySet<NodeName>): void {
    for (const [name, sinceMs] of this.#sinceMs) {
      const node = name.slice(name.indexOf("@") + 1) as NodeName;
      if (!nodes.has(node) && this.#seen.size < WATCHED_MAX) this.#seen.set(name, sinceMs);
    }
    this.#sinceMs = this.#seen;
    this.#seen = new Map();
  }

  /** An audit that was broken off says nothing. */
  dropAudit(): void {
    this.#seen = new Map();
  }
}

function nameOf({ id, node }: PlacedBlob): string {
  return `${id}@${node}`;
}

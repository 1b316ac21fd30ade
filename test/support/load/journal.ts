/**
 * What one client knows of one key: the state that was acknowledged last, and states that may hold instead, because
 * the answer to a later write never came. Only the client that owns the key writes it, one request at a time.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

/** A document is compared by its values, as a patch decides its spelling; other bodies by their bytes. */
export type KeyState =
  | { readonly kind: "absent" }
  | { readonly kind: "bytes"; readonly sizeBytes: number; readonly sha256: string }
  | { readonly kind: "document"; readonly value: Readonly<Record<string, unknown>> };

const EVENTS_MAX = 24;

export const ABSENT: KeyState = { kind: "absent" };

export class KeyJournal {
  readonly key: string;
  #acknowledged: KeyState = ABSENT;
  /** In the order in which they were asked for. */
  #unknown: KeyState[] = [];
  readonly #events: string[] = [];

  constructor(key: string) {
    this.key = key;
  }

  /** The state for certain; null while the outcome of a write is unknown. */
  get certain(): KeyState | null {
    return this.#unknown.length === 0 ? this.#acknowledged : null;
  }

  acknowledge(state: KeyState): void {
    this.#note("acknowledged", state);
    this.#take(state, []);
  }

  /** The write may have happened, or may not. */
  doubt(state: KeyState): void {
    this.#note("unknown", state);
    this.#unknown.push(state);
  }

  /** Takes what a read found, null for nothing, as the truth from now on. Throws when no outcome explains it. */
  settle(body: Buffer | null, context: string): void {
    this.#take(this.#explain(body, context).state, []);
  }

  /**
   * As `settle`, while recovery goes on: a write whose answer never came and that is not there may still come, unless a
   * later one is there.
   */
  observe(body: Buffer | null, context: string): void {
    const { state, later } = this.#explain(body, context);
    this.#take(state, later);
  }

  #take(state: KeyState, unknown: readonly KeyState[]): void {
    this.#acknowledged = state;
    this.#unknown = [...unknown];
  }

  /** Which state it is, and what may still come after it. */
  #explain(body: Buffer | null, context: string): { readonly state: KeyState; readonly later: readonly KeyState[] } {
    const possible = [this.#acknowledged, ...this.#unknown];
    const at = possible.findIndex((state) => matches(state, body));
    const state = possible[at];
    if (state === undefined) {
      const wanted = possible.map(describeState).join(" or ");
      const events = this.#events.join("; ");
      throw new Error(`${context}: ${this.key} is ${describeBody(body)}, expected ${wanted}, after ${events}`);
    }
    this.#note(`seen in ${context}:`, state);
    return { state, later: possible.slice(at + 1) };
  }

  /** The latest, for whoever has to find out what went wrong. */
  #note(what: string, state: KeyState): void {
    this.#events.push(`${what} ${describeState(state)}`);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
  }
}

export function bytesState(body: Uint8Array): KeyState {
  return { kind: "bytes", sizeBytes: body.length, sha256: createHash("sha256").update(body).digest("hex") };
}

export function matches(state: KeyState, body: Buffer | null): boolean {
  if (state.kind === "absent" || body === null) return state.kind === "absent" && body === null;
  if (state.kind === "bytes") return isDeepStrictEqual(bytesState(body), state);
  try {
    return isDeepStrictEqual(JSON.parse(body.toString()), state.value);
  } catch {
    return false;
  }
}

export function describeState(state: KeyState): string {
  if (state.kind === "absent") return "absent";
  if (state.kind === "bytes") return `${state.sizeBytes} bytes ${state.sha256.slice(0, 12)}`;
  return `document ${JSON.stringify(state.value).slice(0, 120)}`;
}

export function describeBody(body: Buffer | null): string {
  if (body === null) return "absent";
  return `${describeState(bytesState(body))} ${JSON.stringify(body.subarray(0, 80).toString("latin1"))}`;
}

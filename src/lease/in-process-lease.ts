import type { Lease, LeaseGrant } from "./lease.ts";

/**
 * Leadership within one process, which is all there is when one process runs every role: a lease never expires, it is
 * lost by its release or by closing. Tokens begin anew with the process; so does everything that could hold an old one.
 */
export function createInProcessLease(): Lease {
  return new InProcessLease();
}

class InProcessLease implements Lease {
  readonly #grants = new Map<string, { readonly holder: string; readonly controller: AbortController }>();
  readonly #tokens = new Map<string, number>();
  #closed = false;

  async tryAcquire(name: string, holder: string): Promise<LeaseGrant | null> {
    if (this.#closed || this.#grants.has(name)) return null;
    const token = (this.#tokens.get(name) ?? 0) + 1;
    this.#tokens.set(name, token);
    const controller = new AbortController();
    this.#grants.set(name, { holder, controller });
    return {
      token,
      isHeld: () => !controller.signal.aborted,
      signal: controller.signal,
      release: async () => {
        // A grant that is released twice must not end that of its successor.
        if (controller.signal.aborted) return;
        this.#grants.delete(name);
        controller.abort();
      },
    };
  }

  async holderOf(name: string): Promise<string | null> {
    return this.#grants.get(name)?.holder ?? null;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const grants = [...this.#grants.values()];
    this.#grants.clear();
    for (const { controller } of grants) controller.abort();
  }
}

import { StoreError } from "../domain/errors.ts";
import type { Permit, Semaphore } from "../lib/semaphore.ts";

export type MemoryDeps = {
  /** Bytes in flight of all requests together. */
  readonly memory: Semaphore;
  readonly timeouts: { readonly memoryMs: number };
};

/**
 * Accounts for bytes that a request is about to hold.
 * @throws {StoreError} `overloaded` (retriable) when no memory came free in time
 */
export async function reserveMemory(deps: MemoryDeps, bytes: number): Promise<Permit> {
  const permit = deps.memory.tryAcquire(bytes) ?? (await deps.memory.acquire(bytes, deps.timeouts.memoryMs));
  if (permit !== null) return permit;
  throw new StoreError(
    "overloaded",
    `No memory for another transfer: ${deps.memory.used} of ${deps.memory.limit} bytes are in flight`,
    { retriable: true },
  );
}

/** Writes that are held up right before their commit, over the in-memory store, and what others do meanwhile. */
import { expect } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { ObjectPatcher } from "../../src/object/patch.ts";
import { NO_PRECONDITIONS } from "../../src/object/requests.ts";
import { settle } from "./manual-clock.ts";
import type { MemoryStore } from "./memory-store.ts";
import { RELEASE_DELAY_MS, openMemoryStore } from "./memory-store.ts";
import { BUCKET, keyOf } from "./store.ts";

/** What a client is told whose write may have been stored. */
export const UNKNOWN = { code: "metadata_unavailable", retriable: true };

/** A store in which `before` runs once, right before a commit, when it is armed. */
export function openHeldUp(
  before: (store: MemoryStore) => Promise<unknown>,
  node?: (real: BlobStore) => Partial<BlobStore>,
) {
  const state = { armed: false, commits: 0 };
  const store: MemoryStore = openMemoryStore({
    ...(node === undefined ? {} : { node }),
    metadata: (real) => ({
      async commit(change, deadline) {
        state.commits += 1;
        if (state.armed) {
          state.armed = false;
          await before(store);
        }
        return await real.commit(change, deadline);
      },
    }),
  });
  return { store, state };
}

/** Nothing is left of what failed or was replaced. */
export async function expectQuiet(store: MemoryStore): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    store.clock.advance(RELEASE_DELAY_MS);
    for (let turn = 0; turn < 5; turn += 1) await settle();
  }
  expect(await store.blobs()).toEqual(await store.namedBlobs());
  expect(await store.openIntents()).toEqual([]);
  expect(store.deps.active.size).toBe(0);
}

export function patch(store: MemoryStore, text: string) {
  const address = { bucket: BUCKET, key: keyOf("k") };
  const request = { ...address, patch: Buffer.from(text), consistency: null, preconditions: NO_PRECONDITIONS };
  return new ObjectPatcher(store.deps).patch(request);
}

export function documentOf(battery: number, cold: number): Buffer {
  return Buffer.from(`{"battery": ${battery}, "pad": "${"x".repeat(300_000)}", "cold": ${cold}}`);
}

import type { HealingLedger } from "./healing-ledger.ts";
import { EMPTY_LEDGER } from "./healing-ledger.ts";
import type { HealingStore } from "./healing-store.ts";

/** The ledger in the hands of the leader of one term. */
export type OpenLedger = {
  /** As last written by this term. */
  current(): HealingLedger;
  /** One after the other; durable when resolved. @throws {StoreError} as `HealingStore.changeLedger` */
  change(change: (ledger: HealingLedger) => HealingLedger): Promise<HealingLedger>;
  /** What need not survive this term, or not yet: told by `current`, and durable with the next change that keeps it. */
  note(change: (ledger: HealingLedger) => HealingLedger): void;
};

/** Takes the ledger over: from now on no earlier term can write to it. @throws {StoreError} as `HealingStore.changeLedger` */
export async function openLedger(store: HealingStore, term: number): Promise<OpenLedger> {
  let current = EMPTY_LEDGER;
  let last: Promise<unknown> = Promise.resolve();
  const write = async (change: (ledger: HealingLedger) => HealingLedger) => {
    // Nobody else writes in this term: what is at hand is what is stored, and what was noted since.
    current = await store.changeLedger(term, (found) => change(found.term === term ? current : found));
    return current;
  };
  const ledger: OpenLedger = {
    current: () => current,
    change(change) {
      const changed = last.then(() => write(change));
      last = changed.catch(() => {});
      return changed;
    },
    note(change) {
      current = change(current);
    },
  };
  await ledger.change((found) => found);
  return ledger;
}

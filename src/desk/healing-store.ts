import type { HealingControls } from "../domain/healing.ts";
import type { HealingLedger } from "./healing-ledger.ts";

/**
 * Where controls and ledger outlive the processes. Every method rejects with `healing_unavailable` (retriable) when the
 * place cannot be reached in time, `format_unknown` for what a newer program wrote.
 */
export type HealingStore = {
  /** As some replica knows them: what was set last may be missing for a moment. */
  readControls(): Promise<HealingControls>;
  /** Changes them atomically, as often as others are faster; durable when resolved. `change` may be called more than once. */
  changeControls(change: (controls: HealingControls) => HealingControls): Promise<HealingControls>;
  /**
   * Changes the ledger atomically on behalf of the leader of `term`; durable when resolved. A write whose outcome is
   * unknown is made again, on top of itself where it had arrived. `change` must therefore do no harm when it is done twice.
   * @throws {StoreError} `healing_unavailable` also when a later term has written: this leader leads no more
   */
  changeLedger(term: number, change: (ledger: HealingLedger) => HealingLedger): Promise<HealingLedger>;
  close(): Promise<void>;
};

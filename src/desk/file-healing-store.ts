/** Controls and ledger of a store in one process: a file each, replaced as a whole. */
import { controlsCodec, ledgerCodec } from "./healing-codec.ts";
import { EMPTY_LEDGER } from "./healing-ledger.ts";
import type { HealingStore } from "./healing-store.ts";
import { WholeFile } from "./whole-file.ts";

/** Nothing is written before something is changed. `dir` is the caller's alone. */
export function openFileHealingStore(dir: string): HealingStore {
  const controls = new WholeFile(dir, "controls", controlsCodec, {});
  const ledger = new WholeFile(dir, "ledger", ledgerCodec, EMPTY_LEDGER);
  return {
    readControls: () => controls.read(),
    changeControls: (change) => controls.change(change),
    changeLedger: (term, change) => ledger.change((found) => ({ ...change(found), term })),
    close: () => Promise.all([controls.settled(), ledger.settled()]).then(() => {}),
  };
}

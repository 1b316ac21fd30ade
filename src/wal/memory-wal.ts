import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import { decodeIntent, encodeIntent } from "../domain/intent.ts";
import type { Wal, WalEntry, WalSequence } from "./wal.ts";

/** What a memory log holds; survives the log, as a disk would. */
export class MemoryIntents {
  /** In order of their sequences. */
  readonly bySequence = new Map<WalSequence, { readonly txid: Txid; readonly encoded: Uint8Array }>();
  readonly sequenceOf = new Map<Txid, WalSequence>();
  sequenceLast: WalSequence = 0;
}

/** Intents in memory, nothing durable: for tests and trials. */
export function createMemoryWal(intents: MemoryIntents = new MemoryIntents()): Wal {
  return new MemoryWal(intents);
}

class MemoryWal implements Wal {
  readonly #intents: MemoryIntents;
  #closed = false;

  constructor(intents: MemoryIntents) {
    this.#intents = intents;
  }

  async append(intent: Intent): Promise<WalSequence> {
    this.#refuseWhenClosed();
    this.#remove(intent.txid);
    const sequence = (this.#intents.sequenceLast += 1);
    this.#intents.bySequence.set(sequence, { txid: intent.txid, encoded: encodeIntent(intent) });
    this.#intents.sequenceOf.set(intent.txid, sequence);
    return sequence;
  }

  async settle(txids: readonly Txid[]): Promise<void> {
    this.#refuseWhenClosed();
    for (const txid of txids) this.#remove(txid);
  }

  async readOpen(after: WalSequence, limit: number): Promise<WalEntry[]> {
    this.#refuseWhenClosed();
    const found: WalEntry[] = [];
    for (const [sequence, { encoded }] of this.#intents.bySequence) {
      if (found.length === limit) break;
      if (sequence > after) found.push({ sequence, intent: decodeIntent(encoded), ageMs: 0 });
    }
    return found;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #remove(txid: Txid): void {
    const sequence = this.#intents.sequenceOf.get(txid);
    if (sequence === undefined) return;
    this.#intents.sequenceOf.delete(txid);
    this.#intents.bySequence.delete(sequence);
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new StoreError("wal_unavailable", "The log is closed", { retriable: true });
  }
}

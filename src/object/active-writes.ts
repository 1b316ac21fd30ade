import type { Txid } from "../domain/ids.ts";

/** The writes that this process has under way. Their intents are not anyone's to recover. */
export class ActiveWrites {
  readonly #txids = new Set<Txid>();

  begin(txid: Txid): void {
    this.#txids.add(txid);
  }

  end(txid: Txid): void {
    this.#txids.delete(txid);
  }

  has(txid: Txid): boolean {
    return this.#txids.has(txid);
  }

  get size(): number {
    return this.#txids.size;
  }
}

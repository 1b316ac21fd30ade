import type { Deadline } from "../lib/deadline.ts";
import type { Intent } from "../domain/intent.ts";
import type { Txid } from "../domain/ids.ts";

/** Orders intents as they became durable; rises, with gaps. */
export type WalSequence = number;
export type WalEntry = {
  readonly sequence: WalSequence;
  readonly intent: Intent;
  /** How long it is known to be open, by one clock alone: at most as long as it really is. */
  readonly ageMs: number;
};

/** The log of writes under way. An intent is open from its append until it is settled. */
export type Wal = {
  /**
   * Appends one intent. Resolves when it is durable (fsynced on a quorum), not merely sent. Appending again under the
   * same txid supersedes the earlier intent. The caller keeps ownership of `intent`; it is encoded before this first awaits.
   * @throws {StoreError} `wal_unavailable` (retriable) not durable before the deadline: the outcome is unknown
   */
  append(intent: Intent, deadline: Deadline): Promise<WalSequence>;
  /**
   * Closes intents: nothing that they planned is left to look after. Resolves when recorded; may be lost in a crash, so
   * recovery meets settled writes again and must find nothing to do. Unknown txids are ignored.
   */
  settle(txids: readonly Txid[], deadline: Deadline): Promise<void>;
  /** Open intents in order of their sequence, from `after` (exclusive), at most `limit`. Ends with an empty page. */
  readOpen(after: WalSequence, limit: number, deadline: Deadline): Promise<WalEntry[]>;
  close(): Promise<void>;
};

/**
 * Intents in a JetStream stream, which replicates and orders them. Every process appends; the leading healer reads.
 *
 * Appends are group commits: what waits while a message is under way goes together in the next one, and settlements
 * ride along. An append is repeated until its deadline, so an intent may be stored twice. That is harmless: the later
 * one supersedes. Should a repetition arrive even behind the settlement, it opens the intent again, recovery meets it,
 * finds the write finished and settles it once more.
 *
 * The stream's age limit is a backstop for a cluster without a healer, whose log nobody trims. A healer appends again
 * what gets old, so only an intent that no healer has met for the whole limit is lost by age. What its write left is
 * then no longer found by recovery but by audit, as blobs that no record names: space, never data.
 */
import { DiscardPolicy, RetentionPolicy, StorageType, jetstreamManager } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import type { Registry } from "prom-client";
import { StoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import { encodeIntent } from "../domain/intent.ts";
import type { Deadline } from "../lib/deadline.ts";
import { remainingMs } from "../lib/deadline.ts";
import { ensureStream } from "../nats/nats-ensure-stream.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { createWalMetrics } from "./metrics.ts";
import { NatsWalReader } from "./nats-wal-reader.ts";
import { NatsWalWriter } from "./nats-wal-writer.ts";
import type { Wal, WalEntry, WalSequence } from "./wal.ts";

export type NatsWalOptions = { readonly registry: Registry | null };

export type NatsWal = Wal & {
  /**
   * For the leading healer: gives up what lies before every open intent, so that the log stays short. Safe to repeat,
   * also by one who leads no more; a stuck intent is appended again behind the others so that it holds up nothing.
   * @throws {StoreError} `wal_unavailable` (retriable)
   */
  trim(deadline: Deadline): Promise<void>;
};

const AGE_MS_MAX = 7 * 24 * 3_600_000;

/** Creates the log's stream unless it exists. @throws {StoreError} `nats_unavailable` (retriable), `cluster_mismatch` */
export async function ensureWalStream(link: NatsLink): Promise<void> {
  const config = {
    name: link.names.walStream,
    subjects: [link.names.walSubject],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    // Full is an error that writers see; the oldest intents must not make room.
    discard: DiscardPolicy.New,
    num_replicas: link.streamReplicas,
    max_age: nanos(AGE_MS_MAX),
  };
  await ensureStream(link, config, { whenDifferent: "keep" });
}

/** Opens the log. Its stream is created unless it exists. @throws {StoreError} `nats_unavailable` (retriable) */
export async function openNatsWal(link: NatsLink, options: NatsWalOptions): Promise<NatsWal> {
  await ensureWalStream(link);
  return new JetStreamWal(link, options);
}

class JetStreamWal implements NatsWal {
  readonly #link: NatsLink;
  readonly #reader: NatsWalReader;
  readonly #writer: NatsWalWriter;
  #purgedBefore = 1;

  constructor(link: NatsLink, { registry }: NatsWalOptions) {
    this.#link = link;
    this.#reader = new NatsWalReader(link);
    const metrics = registry === null ? null : createWalMetrics(registry, () => this.#reader.open.size);
    this.#writer = new NatsWalWriter(link, metrics);
  }

  async append(intent: Intent, deadline: Deadline): Promise<WalSequence> {
    return await this.#writer.append({ txid: intent.txid, encoded: encodeIntent(intent) }, deadline);
  }

  async settle(txids: readonly Txid[]): Promise<void> {
    this.#writer.settle(txids);
  }

  async readOpen(after: WalSequence, limit: number, deadline: Deadline): Promise<WalEntry[]> {
    await this.#catchUp(deadline);
    return this.#reader.open.page(after, limit, this.#link.clock.monotonicMs());
  }

  async trim(deadline: Deadline): Promise<void> {
    const endSequence = await this.#catchUp(deadline);
    const { again, purgeBefore } = this.#reader.open.planTrim(endSequence, this.#link.clock.monotonicMs());
    await Promise.all(again.map((append) => this.#writer.append(append, deadline)));
    if (again.length > 0) this.#link.logger.info({ count: again.length }, "stuck intents were appended again");
    if (purgeBefore <= this.#purgedBefore) return;
    await this.#purge(purgeBefore, deadline);
    this.#purgedBefore = purgeBefore;
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#reader.close();
  }

  /** The sequence of a message that was sent after this call, once everything up to it has been read. */
  async #catchUp(deadline: Deadline): Promise<number> {
    const streamSequence = await this.#writer.flush(deadline);
    await this.#reader.readUpTo(streamSequence, deadline);
    return streamSequence;
  }

  async #purge(beforeSequence: number, deadline: Deadline): Promise<void> {
    try {
      const timeout = Math.max(1, remainingMs(this.#link.clock, deadline));
      const manager = await jetstreamManager(this.#link.connection, { checkAPI: false, timeout });
      await manager.streams.purge(this.#link.names.walStream, { seq: beforeSequence });
    } catch (cause) {
      throw new StoreError("wal_unavailable", `Cannot shorten the log: ${String(cause)}`, { retriable: true, cause });
    }
  }
}

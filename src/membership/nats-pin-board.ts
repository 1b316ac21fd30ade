/**
 * Keeps blobs that a long download streams from being freed by another process. Every process announces the blob sets
 * that its readers hold, stored nowhere; who is about to free blobs asks its own board what the others announced.
 *
 * A board announces in every period, also that nothing is pinned: its own announcement coming back is how it knows that
 * it hears the others. While it does not, or has not for a whole window, everything counts as pinned.
 *
 * A pin that began just now may not have been announced yet. Who frees blobs has made them unreachable for new readers
 * at least a window before, so that all readers they still have were announced in the meantime.
 */
import type { Subscription } from "@nats-io/transport-node";
import { isStoreError } from "../domain/errors.ts";
import type { Timer } from "../lib/clock.ts";
import { encodeToken } from "../nats/nats-names.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { PinAnnouncement } from "./pin-announcement.ts";
import { AnnouncedPins, pinAnnouncementCodec, splitPins } from "./pin-announcement.ts";

export type PinBoardOptions = {
  /** Asked in every period for the blob sets (`<txid>.<part>`) to announce: those whose readers have been at it for a while. */
  readonly localNames: () => Iterable<string>;
  /** The period. */
  readonly announceMs?: number;
};

export type NatsPinBoard = AsyncDisposable & {
  /** False only when this process would know if another one read from the blob set. */
  isPinned(name: string): boolean;
};

const ANNOUNCE_MS = 1_000;
/** How many periods a process may miss before its pins end: it is dead, or as good as. */
const WINDOW_PERIODS = 3.5;

export function openPinBoard(link: NatsLink, options: PinBoardOptions): NatsPinBoard {
  return new PinBoard(link, options);
}

class PinBoard implements NatsPinBoard {
  readonly #link: NatsLink;
  readonly #localNames: () => Iterable<string>;
  readonly #announceMs: number;
  readonly #windowMs: number;
  readonly #board: string;
  readonly #others = new Map<string, AnnouncedPins>();
  readonly #subscription: Subscription;
  #round = 0;
  /** When this board heard itself, without a break since then; null while it does not. */
  #hearing: { readonly sinceMs: number; readonly lastMs: number } | null = null;
  #timer: Timer | null = null;
  #hasWarned = false;

  constructor(link: NatsLink, { localNames, announceMs = ANNOUNCE_MS }: PinBoardOptions) {
    this.#link = link;
    this.#localNames = localNames;
    this.#announceMs = announceMs;
    this.#windowMs = WINDOW_PERIODS * announceMs;
    this.#board = Buffer.from(link.random.bytes(12)).toString("hex");
    this.#subscription = link.connection.subscribe(link.names.pinsSubjects, {
      callback: (failure, message) => {
        if (failure === null) return this.#receive(message.data);
        // It never hears itself then, and so everything stays pinned.
        link.logger.error({ cause: failure.message }, "cannot hear which blobs other processes read");
      },
    });
    this.#announceOften();
  }

  isPinned(name: string): boolean {
    const nowMs = this.#link.clock.monotonicMs();
    if (!this.#hasListened(nowMs)) return true;
    return [...this.#others.values()].some((pins) => pins.has(name, nowMs - this.#windowMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    this.#subscription.unsubscribe();
    this.#hearing = null;
    this.#announce([]);
  }

  #announceOften(): void {
    this.#announce(this.#localNames());
    this.#forgetSilent();
    this.#timer = this.#link.clock.startTimer(this.#announceMs, () => this.#announceOften());
  }

  #announce(names: Iterable<string>): void {
    const { connection, processName, names: subjects } = this.#link;
    if (connection.isClosed()) return;
    this.#round += 1;
    for (const part of splitPins(this.#board, this.#round, names)) {
      connection.publish(subjects.pinsSubject(encodeToken(processName)), pinAnnouncementCodec.encode(part));
    }
  }

  #receive(bytes: Uint8Array): void {
    const announcement = this.#decode(bytes);
    if (announcement === null) return;
    const nowMs = this.#link.clock.monotonicMs();
    if (announcement.board === this.#board) {
      const sinceMs = this.#hears(nowMs) ? (this.#hearing?.sinceMs ?? nowMs) : nowMs;
      this.#hearing = { sinceMs, lastMs: nowMs };
      return;
    }
    const pins = this.#others.get(announcement.board) ?? new AnnouncedPins();
    this.#others.set(announcement.board, pins);
    pins.hear(announcement, nowMs);
  }

  #decode(bytes: Uint8Array): PinAnnouncement | null {
    try {
      return pinAnnouncementCodec.decode(bytes);
    } catch (cause) {
      if (!isStoreError(cause, "format_unknown")) throw cause;
      // Somebody announces pins that cannot be read here: until that ends, nothing is known for sure.
      this.#hearing = null;
      if (!this.#hasWarned)
        this.#link.logger.warn({ cause: cause.message }, "pins of another process are not understood");
      this.#hasWarned = true;
      return null;
    }
  }

  #hears(nowMs: number): boolean {
    return this.#hearing !== null && nowMs - this.#hearing.lastMs <= 2 * this.#announceMs;
  }

  #hasListened(nowMs: number): boolean {
    return (
      this.#hears(nowMs) && this.#hearing !== null && this.#hearing.lastMs - this.#hearing.sinceMs >= this.#windowMs
    );
  }

  #forgetSilent(): void {
    const sinceMs = this.#link.clock.monotonicMs() - this.#windowMs;
    for (const [board, pins] of this.#others) if (pins.isSilentSince(sinceMs)) this.#others.delete(board);
  }
}

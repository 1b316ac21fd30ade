/** What one process tells the others of the blob sets that its readers stream from. */
import { z } from "zod";
import { createMessageCodec } from "../domain/message-codec.ts";

const count = z.number().int().nonnegative();
const announcementSchema = z.object({
  /** Of one board, so that it knows its own. */
  board: z.string(),
  /** Rises with every announcement of the board. */
  round: count,
  /** An announcement comes in so many parts; this is one of them, from 0. */
  part: count,
  parts: z.number().int().positive(),
  /** `<txid>.<part>` */
  names: z.array(z.string()),
});
export type PinAnnouncement = Readonly<z.output<typeof announcementSchema>>;

export const pinAnnouncementCodec = createMessageCodec<PinAnnouncement>("an announcement of pins", announcementSchema);

/** A name has about 30 bytes, so a message stays far below what NATS takes. */
export const PINS_PER_MESSAGE_MAX = 2_000;

/** The announcement in messages of bounded size; one without names where nothing is pinned. */
export function splitPins(board: string, round: number, names: Iterable<string>): PinAnnouncement[] {
  const all = [...names];
  const parts = Math.max(1, Math.ceil(all.length / PINS_PER_MESSAGE_MAX));
  return Array.from({ length: parts }, (_, part) => ({
    ...{ board, round, part, parts },
    names: all.slice(part * PINS_PER_MESSAGE_MAX, (part + 1) * PINS_PER_MESSAGE_MAX),
  }));
}

/** What one board has pinned, as far as its messages arrived. */
export class AnnouncedPins {
  /** The last round that named a set, and when that was. */
  readonly #seen = new Map<string, { readonly round: number; readonly atMs: number }>();
  #round = -1;
  #partsMissing = new Set<number>();
  #heardAtMs = 0;

  hear({ round, part, parts, names }: PinAnnouncement, nowMs: number): void {
    this.#heardAtMs = nowMs;
    if (round > this.#round) {
      this.#round = round;
      this.#partsMissing = new Set(Array.from({ length: parts }, (_, index) => index));
    }
    for (const name of names) this.#seen.set(name, { round, atMs: nowMs });
    if (round === this.#round && this.#partsMissing.delete(part) && this.#partsMissing.size === 0) this.#endRound();
  }

  /** True when the set was named since `sinceMs` and no complete announcement has left it out after that. */
  has(name: string, sinceMs: number): boolean {
    const seen = this.#seen.get(name);
    return seen !== undefined && seen.atMs >= sinceMs;
  }

  isSilentSince(sinceMs: number): boolean {
    return this.#heardAtMs < sinceMs;
  }

  #endRound(): void {
    for (const [name, { round }] of this.#seen) if (round < this.#round) this.#seen.delete(name);
  }
}

/** Several clients and what they know of their keys, from one seed; and the check of that knowledge against a store. */
import { expect } from "vitest";
import type { KeyJournal } from "./journal.ts";
import { LoadClient, type Race, type Tally } from "./load-client.ts";
import { createSeeded, type Seeded } from "./seeded.ts";

export const CLIENTS = 8;

export type Load = {
  readonly random: Seeded;
  readonly clients: readonly LoadClient[];
  readonly races: Race[];
  readonly tally: Tally;
};

/** How a key is read: over HTTP, or in process. Null for a key that is absent. */
export type ReadKey = (key: string) => Promise<Buffer | null>;

export function createLoad(seed: number, clientCount = CLIENTS): Load {
  const races: Race[] = [{ key: "race/0", attempts: [] }];
  const tally: Tally = { acknowledged: 0, unknown: 0, refused: 0 };
  const clients = Array.from(
    { length: clientCount },
    (_, index) => new LoadClient(`client-${index}`, createSeeded(seed * 100 + index), races, tally),
  );
  return { random: createSeeded(seed), clients, races, tally };
}

/** `open`: recovery may still complete writes whose answers never came. */
export type Outcomes = "settled" | "open";

/** Every key reads as its last acknowledged state, or as one whose answer never came; that is the truth from then on. */
export async function checkKeys(
  { clients, races }: Load,
  context: string,
  read: ReadKey,
  outcomes: Outcomes = "settled",
): Promise<void> {
  const journals: KeyJournal[] = clients.flatMap((each) => each.journals);
  const take = outcomes === "settled" ? "settle" : "observe";
  await Promise.all(journals.map(async (journal) => journal[take](await read(journal.key), context)));
  await Promise.all(races.map(async (race) => settleRace(race, await read(race.key), context, outcomes)));
}

/** A listing has the keys that are there for certain, and of the others only such as may be. Asked after `checkKeys`. */
export function checkListing({ clients, races }: Load, listed: ReadonlySet<string>, context: string): void {
  const certain = clients.flatMap(({ journals }) => journals).filter((journal) => journal.certain !== null);
  const present = certain.filter((journal) => journal.certain?.kind !== "absent").map(({ key }) => key);
  const absent = certain.filter((journal) => journal.certain?.kind === "absent").map(({ key }) => key);
  present.push(
    ...races.filter(({ attempts }) => attempts.some(({ outcome }) => outcome === "won")).map(({ key }) => key),
  );
  absent.push(...races.filter(({ attempts }) => attempts.length === 0).map(({ key }) => key));
  const wrong = {
    missing: present.filter((key) => !listed.has(key)),
    surplus: absent.filter((key) => listed.has(key)),
  };
  expect(wrong, `${context}: listing`).toEqual({ missing: [], surplus: [] });
}

/** Of all who tried to create the key the winner's bytes are there; without a winner one whose answer never came, or none. */
function settleRace(race: Race, body: Buffer | null, context: string, outcomes: Outcomes): void {
  const won = race.attempts.filter(({ outcome }) => outcome === "won");
  expect(won.length, `${context}: winners of ${race.key}`).toBeLessThanOrEqual(1);
  const possible = won.length === 1 ? won : race.attempts;
  const found = possible.find((attempt) => attempt.body === body?.toString());
  if (found === undefined) {
    expect([body?.toString() ?? null, won.length], `${context}: ${race.key}`).toEqual([null, 0]);
    if (outcomes === "settled") race.attempts.length = 0;
    return;
  }
  found.outcome = "won";
  race.attempts.splice(0, race.attempts.length, found);
}

/** Milliseconds of work by kind. The kinds do not overlap. */
export type Spent = { hashMs: number; encodeMs: number; decodeMs: number };

export function noneSpent(): Spent {
  return { hashMs: 0, encodeMs: 0, decodeMs: 0 };
}

export function addSpent(total: Spent, more: Readonly<Spent>): void {
  total.hashMs += more.hashMs;
  total.encodeMs += more.encodeMs;
  total.decodeMs += more.decodeMs;
}

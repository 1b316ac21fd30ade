import type { Clock } from "../lib/clock.ts";

/** Tokens come back at `perSecond`; a second's worth may be used at once. */
export type RateLimit = {
  /** Null when the request may go ahead, else the seconds after which it may. */
  take(client: string): number | null;
};

type Bucket = { tokens: number; atMs: number };

/** Clients remembered. Who is forgotten starts with a full bucket, so forgetting is never unfair to anyone. */
const CLIENTS_MAX = 10_000;

export function createRateLimit(clock: Clock, perSecond: number): RateLimit {
  // In the order of last use: the first is the one to forget.
  const buckets = new Map<string, Bucket>();
  return {
    take(client) {
      const name = networkOf(client);
      const now = clock.monotonicMs();
      const bucket = buckets.get(name) ?? { tokens: perSecond, atMs: now };
      bucket.tokens = Math.min(perSecond, bucket.tokens + ((now - bucket.atMs) * perSecond) / 1_000);
      bucket.atMs = now;
      buckets.delete(name);
      buckets.set(name, bucket);
      if (buckets.size > CLIENTS_MAX) buckets.delete(buckets.keys().next().value as string);
      if (bucket.tokens < 1) return Math.max(1, Math.ceil((1 - bucket.tokens) / perSecond));
      bucket.tokens -= 1;
      return null;
    },
  };
}

/** One IPv6 client has a whole /64 to itself and could use a new address for each request. */
function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? [] : tail.split(":");
    while (groups.length + rest.length < 8) groups.push("0");
  }
  return `${groups.slice(0, 4).join(":")}::/64`;
}

import type { Registry } from "prom-client";
import { Counter, Gauge } from "prom-client";
import type { Clock } from "../lib/clock.ts";
import type { RoundSummary } from "./recover.ts";

/** What a healer tells of its leadership and of recovery. Registered once per process. */
export type HealerMetrics = ReturnType<typeof createHealerMetrics>;

export function createHealerMetrics(registry: Registry, clock: Clock) {
  const registers = [registry];
  let leaderSinceMs: number | null = null;
  const leaderTerms = new Counter({
    name: "kintsugi_healer_terms_total",
    help: "Times this process became the leading healer",
    registers,
  });
  const leading: Gauge = new Gauge({
    name: "kintsugi_healer_leading_seconds",
    help: "How long this process has been the leading healer, 0 when it is not",
    registers,
    collect: () => leading.set(leaderSinceMs === null ? 0 : (clock.monotonicMs() - leaderSinceMs) / 1_000),
  });
  const openIntents = new Gauge({
    name: "kintsugi_healer_open_intents",
    help: "Intents that the last round of recovery met open",
    registers,
  });
  const oldestIntent = new Gauge({
    name: "kintsugi_healer_oldest_intent_seconds",
    help: "Age of the oldest open intent at the last round of recovery",
    registers,
  });
  const roundDuration = new Gauge({
    name: "kintsugi_healer_round_seconds",
    help: "Duration of the last round of recovery",
    registers,
  });
  return {
    beganTerm(): void {
      leaderTerms.inc();
      leaderSinceMs = clock.monotonicMs();
    },
    /** What only a leader knows is not shown for longer than it leads. */
    endedTerm(): void {
      leaderSinceMs = null;
      for (const gauge of [openIntents, oldestIntent, roundDuration]) gauge.set(0);
    },
    endedRound({ openCount, oldestMs }: RoundSummary, elapsedMs: number): void {
      openIntents.set(openCount);
      oldestIntent.set(oldestMs / 1_000);
      roundDuration.set(elapsedMs / 1_000);
    },
  };
}

import { describe, expect, test } from "vitest";
import type { NodeState } from "../../../src/domain/node-info.ts";
import { NODE_STATES } from "../../../src/domain/node-info.ts";
import { afterEvent, HEALTH_RULES, nodeStateOf, processStateOf, unheard } from "../../../src/membership/node-health.ts";

/**
 * Plays lines of `milliseconds event -> state`, with the events `listen`, `heartbeat STATE`, `report STATE`, `left`,
 * `replaced` and `look`, at which nothing happens. Gives back the lines as they really went.
 */
function play(transcript: string): { readonly wanted: string; readonly met: string } {
  const wanted = transcript.trim().replaceAll(/\n +/g, "\n");
  let health = unheard(0);
  const met = wanted.split("\n").map((line) => {
    const [, at, event = "", said] = /^(\d+) (\w+)(?: (\w+))? ->/.exec(line) ?? [];
    const nowMs = Number(at);
    const state = said as NodeState;
    if (event === "listen") health = unheard(nowMs);
    else if (event === "heartbeat" || event === "report") {
      health = afterEvent(health, { kind: event, state }, nowMs, HEALTH_RULES);
    } else if (event === "left" || event === "replaced") {
      health = afterEvent(health, { kind: event }, nowMs, HEALTH_RULES);
    }
    return `${line.slice(0, line.indexOf(" ->"))} -> ${nodeStateOf(health, nowMs, HEALTH_RULES)}`;
  });
  return { wanted, met: met.join("\n") };
}

const TRANSCRIPTS: Readonly<Record<string, string>> = {
  "a node is suspect until it was heard, and lives from its first heartbeat on": `
    0 listen -> suspect
    2999 look -> suspect
    2999 heartbeat live -> live
  `,
  "silence makes it suspect, then down, then gone; one heartbeat makes it live": `
    0 listen -> suspect
    1000 heartbeat live -> live
    3999 look -> live
    4000 look -> suspect
    8999 look -> suspect
    9000 look -> down
    3600999 look -> down
    3601000 look -> gone
    3602000 heartbeat live -> live
  `,
  "a node that was never heard goes the same way": `
    0 listen -> suspect
    8000 look -> down
    3600000 look -> gone
  `,
  "what it says of itself counts until it says something else": `
    0 listen -> suspect
    0 heartbeat full -> full
    1000 heartbeat fenced -> fenced
    2000 heartbeat live -> live
    3000 heartbeat full -> full
    6000 look -> suspect
  `,
  "a goodbye is down at once, a return is live at once": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 left -> down
    5000 heartbeat live -> live
  `,
  "reports of full and fenced hold until the next heartbeat": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 report full -> full
    200 report fenced -> fenced
    1000 heartbeat live -> live
    1100 report full -> full
    1200 report live -> live
  `,
  "a report of live does not make a node live that says it is full": `
    0 listen -> suspect
    0 heartbeat full -> full
    100 report live -> full
  `,
  "an operator's wish and given-up nodes are nothing that a request can meet": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 report draining -> live
    100 report gone -> live
  `,
  "a failed request opens the breaker for a second; heartbeats do not close it": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 report down -> down
    1000 heartbeat live -> down
    1099 look -> down
    1100 look -> live
  `,
  "failures while it is open count once: they failed together": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 report down -> down
    101 report down -> down
    102 report down -> down
    1100 look -> live
  `,
  "each failure after a half-open time opens it for twice as long, up to eight seconds": `
    0 listen -> suspect
    100 report down -> down
    1000 heartbeat live -> down
    1100 look -> live
    1200 report down -> down
    3000 heartbeat live -> down
    3200 look -> live
    3200 report down -> down
    7000 heartbeat live -> down
    7200 report down -> down
    15000 heartbeat live -> down
    15200 report down -> down
    23000 heartbeat live -> down
    23200 look -> live
  `,
  "a success closes it and its count": `
    0 listen -> suspect
    0 heartbeat live -> live
    100 report down -> down
    1200 report down -> down
    1300 report live -> live
    1400 report down -> down
    2000 heartbeat live -> down
    2400 look -> live
  `,
  "half a minute without a failure forgets the count, too": `
    0 listen -> suspect
    0 report down -> down
    1000 report down -> down
    3000 look -> suspect
    33000 heartbeat live -> live
    33001 report down -> down
    34000 look -> down
    34001 look -> live
  `,
  "another process under the name has nothing to do with the former one's failures": `
    0 listen -> suspect
    0 heartbeat fenced -> fenced
    100 report down -> down
    200 replaced -> suspect
    210 heartbeat live -> live
  `,
  "the worst opinion counts": `
    0 listen -> suspect
    0 heartbeat full -> full
    100 report fenced -> fenced
    200 report down -> down
    1200 look -> fenced
    3000 look -> fenced
    8000 look -> down
    3600000 look -> gone
  `,
};

describe("nodeStateOf()", () => {
  for (const [promise, transcript] of Object.entries(TRANSCRIPTS)) {
    test(promise, () => {
      const { wanted, met } = play(transcript);
      expect(met).toBe(wanted);
    });
  }
});

describe("processStateOf()", () => {
  test("tells silence alone, whatever requests met", () => {
    let health = unheard(0);
    const stateAt = (nowMs: number) => processStateOf(health, nowMs, HEALTH_RULES);
    expect([0, 2_999, 7_999, 8_000, 4_000_000].map(stateAt)).toEqual(["suspect", "suspect", "suspect", "down", "down"]);
    health = afterEvent(health, { kind: "heartbeat", state: "full" }, 0, HEALTH_RULES);
    health = afterEvent(health, { kind: "report", state: "down" }, 0, HEALTH_RULES);
    expect([0, 2_999, 3_000, 8_000].map(stateAt)).toEqual(["live", "live", "suspect", "down"]);
    health = afterEvent(health, { kind: "left" }, 0, HEALTH_RULES);
    expect(stateAt(0)).toBe("down");
  });
});

describe("NODE_STATES", () => {
  test("stand from the best to the worst, which is how opinions are weighed", () => {
    expect(NODE_STATES).toEqual(["live", "full", "draining", "suspect", "fenced", "down", "gone"]);
  });
});

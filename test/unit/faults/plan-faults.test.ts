import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  describeFault,
  FAULT_KINDS,
  planFaults,
  type Fault,
  type ScheduleOptions,
} from "../../faults/schedule/plan-faults.ts";
import { createSeeded } from "../../support/load/seeded.ts";

const names = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`);
const OPTIONS: ScheduleOptions = {
  ...{ spanMs: 180_000, kinds: FAULT_KINDS, smallDiskNode: "node-6" },
  ...{ gateways: names("gateway", 3), nodes: names("node", 6), healers: names("healer", 2), nats: names("nats", 3) },
  ...{ sites: ["a", "b", "c"], streams: ["META", "WAL"] },
};
const LOSING: ReadonlySet<string> = new Set(["wipe", "corrupt"]);

const plan = (seed: number, options: Partial<ScheduleOptions> = {}) =>
  planFaults(createSeeded(seed), { ...OPTIONS, ...options });
const overlaps = (one: Fault, other: Fault) =>
  one.atMs < other.atMs + other.lastsMs && other.atMs < one.atMs + one.lastsMs;

describe("planFaults()", () => {
  test("plans the same for the same seed, and as a person can read it", () => {
    expect(plan(7)).toEqual(plan(7));
    const lines = plan(7, { spanMs: 30_000 }).map(describeFault);
    expect(
      lines.every((line) => /^ +\d+\.\d s {2}\S/.test(line)),
      lines.join("\n"),
    ).toBe(true);
    expect(plan(8)).not.toEqual(plan(7));
  });

  test("never takes more away at one time than a quorum can do without", () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const faults = plan(seed);
        for (const fault of faults) {
          // Every time at which most is away is the beginning of one.
          const begun = faults.filter(({ atMs, lastsMs }) => atMs <= fault.atMs && fault.atMs < atMs + lastsMs);
          const together = begun.map(({ target }) => target);
          const away = (kind: RegExp) => together.filter((target) => kind.test(target)).length;
          expect(away(/^node-/)).toBeLessThanOrEqual(1);
          expect(away(/^(?:nats-|META|WAL)/)).toBeLessThanOrEqual(1);
          expect(away(/^gateway-/)).toBeLessThan(OPTIONS.gateways.length);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("loses data only while everything else is there", () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const faults = plan(seed);
        for (const fault of faults.filter(({ kind }) => LOSING.has(kind))) {
          expect(faults.filter((other) => overlaps(fault, other))).toEqual([fault]);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("uses every kind of fault that is possible, sooner or later, and no other", () => {
    const kindsOf = (options: Partial<ScheduleOptions>) =>
      new Set(
        Array.from({ length: 12 }, (_, seed) => plan(seed, options)).flatMap((faults) =>
          faults.map(({ kind }) => kind),
        ),
      );
    expect([...kindsOf({})].sort()).toEqual([...FAULT_KINDS].sort());
    const without = kindsOf({ sites: [], smallDiskNode: "" });
    expect([...without]).not.toContain("partition");
    expect([...without]).not.toContain("full-disk");
    expect(plan(1, { kinds: [] })).toEqual([]);
  });

  test("ends in time", () => {
    for (let seed = 0; seed < 50; seed += 1) {
      for (const { atMs, lastsMs } of plan(seed)) expect(atMs + lastsMs).toBeLessThanOrEqual(OPTIONS.spanMs);
    }
  });
});

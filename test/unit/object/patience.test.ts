import { describe, expect, it } from "vitest";
import { Alarms } from "../../../src/lib/alarms.ts";
import { Patience } from "../../../src/object/patience.ts";
import { ManualClock, settle } from "../../support/manual-clock.ts";
import { override } from "../../support/memory-store.ts";

const GRACE_MS = 100;

function open(enough: number) {
  const clock = new ManualClock();
  const real = new Alarms(clock);
  let running = 0;
  const alarms = override(real, {
    set(delayMs, action) {
      running += 1;
      const timer = real.set(delayMs, action);
      return {
        cancel: () => {
          running -= 1;
          timer.cancel();
        },
      };
    },
  });
  const patience = new Patience(alarms, { enough, graceMs: GRACE_MS });
  const works = new Map<string, PromiseWithResolvers<string>>();
  const outcomes: string[] = [];
  const begin = (name: string) => {
    const work = Promise.withResolvers<string>();
    works.set(name, work);
    patience.within(work.promise).then(
      (done) => outcomes.push(done === null ? `${name} is late` : `${name} is ${done.value}`),
      (cause: unknown) => outcomes.push(`${name} fails: ${String(cause)}`),
    );
  };
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settle();
    await settle();
  };
  const end = async (name: string) => {
    works.get(name)?.resolve("done");
    await settle();
  };
  return { begin, end, pass, outcomes, works, runningAlarms: () => running };
}

describe("Patience", () => {
  it("within() waits without end for enough of the group, then a while for the others", async () => {
    const { begin, end, pass, outcomes } = open(2);
    for (const name of ["a", "b", "c", "d"]) begin(name);
    await end("a");
    await pass(100 * GRACE_MS);
    expect(outcomes).toEqual(["a is done"]);
    await end("b");
    await pass(GRACE_MS - 1);
    await end("c");
    expect(outcomes).toEqual(["a is done", "b is done", "c is done"]);
    await pass(1);
    expect(outcomes.at(-1)).toBe("d is late");
    await end("d");
    expect(outcomes).toHaveLength(4);
  });

  it("within() counts no failure as done, and passes it on", async () => {
    const { begin, end, pass, outcomes, works } = open(1);
    for (const name of ["a", "b"]) begin(name);
    works.get("a")?.reject("broken");
    await pass(10 * GRACE_MS);
    expect(outcomes).toEqual(["a fails: broken"]);
    await end("b");
    expect(outcomes.at(-1)).toBe("b is done");
  });

  it("within() gives a second try its own time", async () => {
    const { begin, end, pass, outcomes } = open(1);
    for (const name of ["a", "b"]) begin(name);
    await end("a");
    await pass(GRACE_MS);
    begin("b again");
    await pass(GRACE_MS - 1);
    expect(outcomes).toEqual(["a is done", "b is late"]);
    await pass(1);
    expect(outcomes.at(-1)).toBe("b again is late");
  });

  it("within() leaves no alarm behind when all are done in time", async () => {
    const { begin, end, runningAlarms } = open(2);
    for (const name of ["a", "b", "c"]) begin(name);
    for (const name of ["a", "b"]) await end(name);
    expect(runningAlarms()).toBe(1);
    await end("c");
    expect(runningAlarms()).toBe(0);
  });
});

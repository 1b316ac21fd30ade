import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ObjectHeat } from "../../../src/domain/heat.ts";
import type { BucketName, ObjectKey, VersionId } from "../../../src/domain/ids.ts";
import type { HeatReporter, HeatReports } from "../../../src/heat/heat-reports.ts";
import { HEAT_REPORT_MS, ReceivedHeat } from "../../../src/heat/heat-reports.ts";
import { createInProcessHeat } from "../../../src/heat/in-process-heat.ts";
import { createNatsHeatReporter, openNatsHeatReports } from "../../../src/heat/nats-heat-channel.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

const SOON = { timeout: 20_000, interval: 10 };

function heatOf(key: string, reads: number): ObjectHeat {
  const named = { bucket: "default" as BucketName, key: key as ObjectKey };
  return { ...named, version: "01ARZ3NDEKTSV4RRFFQ69G5FAV" as VersionId, reads, windowMs: 60_000 };
}

describe("ReceivedHeat", () => {
  test("collect() knows the latest report of each process", () => {
    const received = new ReceivedHeat(new ManualClock());
    received.receive({ process: "g1", objects: [heatOf("old", 10)] });
    received.receive({ process: "g2", objects: [heatOf("b", 20)] });
    received.receive({ process: "g1", objects: [heatOf("a", 30)] });
    expect(received.collect()).toEqual([
      { process: "g1", objects: [heatOf("a", 30)] },
      { process: "g2", objects: [heatOf("b", 20)] },
    ]);
  });

  test("collect() forgets a process that has missed more than two reports", () => {
    const clock = new ManualClock();
    const received = new ReceivedHeat(clock);
    received.receive({ process: "g1", objects: [heatOf("a", 30)] });
    clock.advance(3 * HEAT_REPORT_MS);
    expect(received.collect()).toHaveLength(1);
    clock.advance(1);
    expect(received.collect()).toEqual([]);
  });
});

type Pair = { readonly reporter: HeatReporter; readonly reports: HeatReports };
let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats()));
afterAll(() => nats[Symbol.asyncDispose]());

const ADAPTERS: readonly [name: string, open: (stack: AsyncDisposableStack) => Promise<Pair>][] = [
  [
    "createInProcessHeat()",
    () => {
      const heat = createInProcessHeat(new ManualClock(), "test");
      return Promise.resolve({ reporter: heat, reports: heat });
    },
  ],
  [
    "createNatsHeatReporter()",
    async (stack) => {
      const clusterName = "heat-pair";
      const [gateway, healer] = await Promise.all([
        openTestLink(nats, { clusterName }),
        openTestLink(nats, { clusterName }),
      ]);
      for (const link of [gateway, healer]) stack.defer(() => link.close());
      const reports = stack.use(openNatsHeatReports(healer));
      await healer.connection.flush();
      return { reporter: createNatsHeatReporter(gateway), reports };
    },
  ],
];

describe.each(ADAPTERS)("%s", (_, open) => {
  test("report() arrives, and replaces what was reported before", async () => {
    await using stack = new AsyncDisposableStack();
    const { reporter, reports } = await open(stack);
    reporter.report([heatOf("a", 1_000), heatOf("b", 900)]);
    await expect.poll(() => reports.collect(), SOON).toHaveLength(1);
    reporter.report([heatOf("b", 950)]);
    await expect.poll(() => reports.collect(), SOON).toEqual([{ process: "test", objects: [heatOf("b", 950)] }]);
    reporter.report([]);
    await expect.poll(() => reports.collect(), SOON).toEqual([{ process: "test", objects: [] }]);
  });
});

describe("openNatsHeatReports()", () => {
  test("passes over what it does not understand", async () => {
    await using stack = new AsyncDisposableStack();
    const link = stack.adopt(await openTestLink(nats, { clusterName: "heat-odd" }), (opened) => opened.close());
    const reports = stack.use(openNatsHeatReports(link));
    link.connection.publish(link.names.heatSubject, Buffer.from([9, 9]));
    createNatsHeatReporter(link).report([heatOf("a", 1_000)]);
    await expect.poll(() => reports.collect(), SOON).toHaveLength(1);
  });

  test("report() after the connection was ended does nothing", async () => {
    const link = await openTestLink(nats, { clusterName: "heat-ended" });
    const reporter = createNatsHeatReporter(link);
    await link.close();
    expect(() => reporter.report([heatOf("a", 1)])).not.toThrow();
  });
});

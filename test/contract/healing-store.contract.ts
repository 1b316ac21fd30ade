/** What every place for controls and ledger promises. */
import { expect, it } from "vitest";
import { withControl, withJob } from "../../src/desk/healing-ledger.ts";
import type { HealingStore } from "../../src/desk/healing-store.ts";
import { StoreError } from "../../src/domain/errors.ts";
import { sampleJob } from "../support/test-desk.ts";

export type OpenStore = AsyncDisposable & {
  readonly store: HealingStore;
  /** Another process over the same place; in one process, the same after a restart. */
  reopen(): Promise<HealingStore>;
};

export function healingStoreContract(open: () => Promise<OpenStore>): void {
  it("begins with nothing", async () => {
    await using opened = await open();
    expect(await opened.store.readControls()).toEqual({});
    expect(await opened.store.changeLedger(1, (ledger) => ledger)).toMatchObject({
      jobs: [],
      incidents: [],
      nodes: {},
    });
  });

  it("keeps controls and ledger over its processes", async () => {
    await using opened = await open();
    await opened.store.changeControls((controls) => withControl(controls, "scrub", { paused: true }));
    await opened.store.changeLedger(1, (ledger) => withJob({ ...ledger, lacking: { n1: 2 } }, sampleJob()));
    const again = await opened.reopen();
    await expect.poll(() => again.readControls()).toEqual({ scrub: { paused: true, bytesPerSecond: null, runs: 0 } });
    const ledger = await again.changeLedger(2, (found) => found);
    expect(ledger).toMatchObject({ term: 2, jobs: [sampleJob()], lacking: { n1: 2 } });
  });

  it("loses none of many changes at the same time", async () => {
    await using opened = await open();
    const raise = () =>
      opened.store.changeControls((controls) =>
        withControl(controls, "scrub", { runs: (controls.scrub?.runs ?? 0) + 1 }),
      );
    await Promise.all(Array.from({ length: 5 }, raise));
    await expect.poll(async () => (await opened.store.readControls()).scrub?.runs).toBe(5);
  });

  it("leaves everything as it was when the change throws", async () => {
    await using opened = await open();
    await opened.store.changeControls((controls) => withControl(controls, "scrub", { paused: true }));
    const failing = opened.store.changeControls(() => {
      throw new StoreError("node_in_use", "Not so");
    });
    await expect(failing).rejects.toMatchObject({ code: "node_in_use" });
    expect((await opened.store.changeControls((controls) => controls)).scrub?.paused).toBe(true);
  });
}

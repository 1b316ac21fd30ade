/** What every desk promises to those who ask there. */
import { expect, it } from "vitest";
import type { HealingDesk } from "../../src/desk/healing-desk.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import type { TestLeading } from "../support/leading.ts";

export type OpenDesk = AsyncDisposable & {
  /** As whoever asks sees it. */
  readonly desk: HealingDesk;
  /** Whoever leads, over nodes n1 to n3. */
  readonly leading: TestLeading;
};

const n1 = "n1" as NodeName;
const nobody = "n9" as NodeName;

export function healingDeskContract(open: () => Promise<OpenDesk>): void {
  it("status() tells of tracks, jobs, incidents, controls and who leads", async () => {
    await using opened = await open();
    const status = await opened.desk.status();
    expect(status).toMatchObject({ leader: "healer-1", waiting: [0, 0, 0], jobs: [], incidents: [], controls: {} });
  });

  it("start() asks for a job that job() then follows to its end", async () => {
    await using opened = await open();
    const job = await opened.desk.start("recover_node", n1);
    expect(job).toMatchObject({ kind: "recover_node", node: "n1" });
    await expect.poll(async () => (await opened.desk.job(job.id)).state).toBe("done");
    const { jobs, incidents } = await opened.desk.status();
    expect(jobs).toMatchObject([{ id: job.id, state: "done", failure: null }]);
    expect(incidents).toMatchObject([{ kind: "on_demand", node: "n1" }]);
  });

  it("refuses jobs of nodes that nobody knows, and recovery of no node at all", async () => {
    await using opened = await open();
    await expect(opened.desk.start("audit", nobody)).rejects.toMatchObject({ code: "node_unknown", retriable: false });
    await expect(opened.desk.start("recover_node", null)).rejects.toMatchObject({ code: "parameter_invalid" });
    await expect(opened.desk.job("none")).rejects.toMatchObject({ code: "job_unknown" });
  });

  it("control() changes what it is told and nothing else, and reaches the tracks", async () => {
    await using opened = await open();
    await opened.desk.control("repair", { bytesPerSecond: 1_024 });
    const controls = await opened.desk.control("repair", { paused: true });
    expect(controls).toEqual({ repair: { paused: true, bytesPerSecond: 1_024, runs: 0 } });
    expect(opened.leading.controls()).toEqual(controls);
    await opened.desk.control("repair", { bytesPerSecond: null });
    expect((await opened.desk.status()).controls.repair).toEqual({ paused: true, bytesPerSecond: null, runs: 0 });
  });

  it("drain() and remove() reach the nodes that are known", async () => {
    await using opened = await open();
    await opened.desk.drain(n1, true);
    await opened.desk.drain(n1, false);
    await expect(opened.desk.remove(n1)).rejects.toMatchObject({ code: "node_in_use", retriable: false });
    expect(opened.leading.told).toEqual(["drain n1", "undrain n1"]);
    await opened.desk.drain(n1, true);
    opened.leading.named = 3;
    await expect(opened.desk.remove(n1)).rejects.toMatchObject({ code: "node_in_use", retriable: true });
    opened.leading.named = 0;
    await opened.desk.remove(n1);
    expect(opened.leading.told.at(-1)).toBe("remove n1");
    await expect(opened.desk.drain(nobody, true)).rejects.toMatchObject({ code: "node_unknown" });
    await expect(opened.desk.remove(nobody)).rejects.toMatchObject({ code: "node_unknown" });
  });
}

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { noFaultPoints } from "../../../src/lib/fault-points.ts";
import { killingFaultPoints } from "../../../src/role/kill-point.ts";

const MODULE = join(import.meta.dirname, "../../../src/role/kill-point.ts");

/** A process that reaches some points and tells how far it came. */
function run(killAt: string, reached: readonly string[]) {
  const script = `
    import { writeSync } from "node:fs";
    import { killingFaultPoints } from ${JSON.stringify(MODULE)};
    const faults = killingFaultPoints(${JSON.stringify(killAt)});
    process.on("exit", () => writeSync(1, "tidied up"));
    for (const point of ${JSON.stringify(reached)}) { faults.reach(point); writeSync(1, "*"); }
  `;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  return { signal: child.signal, output: child.stdout };
}

describe("killingFaultPoints()", () => {
  it("does nothing where no point is named", () => {
    expect(killingFaultPoints(null)).toBe(noFaultPoints);
  });

  it("kills the process at the named point without a chance to tidy up", () => {
    const child = run("put.committed", ["put.parsed", "put.quorum-durable", "put.committed", "put.settled"]);
    expect(child).toEqual({ signal: "SIGKILL", output: "**" });
  });

  it("kills the process when the named point is reached for the n-th time", () => {
    const reached = ["put.cell-sent", "put.parsed", "put.cell-sent", "put.cell-sent", "put.cell-sent"];
    expect(run("put.cell-sent:3", reached)).toEqual({ signal: "SIGKILL", output: "***" });
  });

  it("lets a process live that never gets there", () => {
    expect(run("put.cell-sent:3", ["put.cell-sent", "put.cell-sent"])).toEqual({ signal: null, output: "**tidied up" });
  });
});

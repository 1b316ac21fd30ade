/** Nodes and clients on different runtimes understand each other: they agree on a common algorithm for their proofs. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startChild } from "../support/child-process.ts";
import { runtimeArgs, runtimeBinary, runtimeProblem, RUNTIMES, type Runtime } from "../support/runtimes.ts";

const SMOKE = join(import.meta.dirname, "node-plane-smoke.ts");

function start(runtime: Runtime, argument: string) {
  return startChild(runtimeBinary(runtime), [...runtimeArgs(runtime), SMOKE, argument]);
}

describe.each(RUNTIMES)("a node on %s", (nodeRuntime) => {
  test("serves clients on every runtime", async (context) => {
    for (const runtime of RUNTIMES) {
      const problem = runtimeProblem(runtime);
      if (problem !== null && !process.env["CI"]) return context.skip(problem);
    }
    const dir = await mkdtemp(join(tmpdir(), "kintsugi-plane-"));
    try {
      await using node = start(nodeRuntime, dir);
      await node.linesReach(1);
      for (const runtime of RUNTIMES) {
        await using client = start(runtime, node.lines[0] as string);
        expect([runtime, await client.ended()]).toEqual([runtime, 0]);
      }
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});

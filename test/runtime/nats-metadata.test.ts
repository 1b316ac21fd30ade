/** The metadata store of a cluster on each of the three runtimes, one after the other on the same streams' server. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startChild } from "../support/child-process.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { RUNTIMES, runtimeArgs, runtimeBinary, runtimeProblem } from "../support/runtimes.ts";

let nats: NatsCluster;
let parent: string;
beforeAll(async () => {
  nats = await startNats();
  parent = await mkdtemp(join(tmpdir(), "kintsugi-smoke-"));
});
afterAll(async () => {
  await nats[Symbol.asyncDispose]();
  await rm(parent, { recursive: true, force: true });
});

test.each(RUNTIMES)("the metadata store of a cluster works on %s", async (runtime) => {
  const problem = runtimeProblem(runtime);
  if (problem !== null && !process.env["CI"]) return;
  const script = join(import.meta.dirname, "nats-metadata-smoke.ts");
  const given = [nats.urls[0] as string, `smoke-${runtime}`, join(parent, runtime)];
  await using child = startChild(runtimeBinary(runtime), [...runtimeArgs(runtime), script, ...given]);
  expect(await child.ended()).toBe(0);
  expect(child.lines.at(-1)).toBe("ok");
});

/** The NATS door and the client library on each of the three runtimes, against a real server. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { runtimeArgs, runtimeBinary, runtimeProblem, RUNTIMES } from "../support/runtimes.ts";

const CHILD = join(import.meta.dirname, "../support/nats-client-child.ts");

let nats: NatsCluster;
beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  await nats?.[Symbol.asyncDispose]();
});

test.for(RUNTIMES)("door and client do all they promise on %s", async (runtime, context) => {
  const problem = runtimeProblem(runtime);
  if (problem !== null && !process.env["CI"]) context.skip(problem);
  const args = [...runtimeArgs(runtime), CHILD, nats.urls[0] as string, `EVENTS_${runtime}`];
  const { stdout } = await promisify(execFile)(runtimeBinary(runtime), args, { timeout: 50_000 });
  expect(JSON.parse(stdout)).toEqual({
    ...{ "put and get 0": true, "put and get 1000": true, "put and get 300000": true, "put and get 3000000": true },
    ...{ "web stream": true, range: true, fields: '{"a":3}', list: ["doc", "Ünïcödé/😀"], head: 3_000_000 },
    ...{ delete: [true, false], error: "precondition_failed", watch: ["Ünïcödé/😀", 1] },
    ping: "io.nats.micro.v1.ping_response",
  });
});

/**
 * One suite against the program as its users meet it: a process of its own, real HTTP, on each of the three runtimes.
 * Under CI a missing runtime has already ended the run, see `test/setup/install.ts`.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { StoreClient } from "../support/black-box/client.ts";
import { contentChecks } from "../support/black-box/content.ts";
import { documentChecks } from "../support/black-box/documents.ts";
import { keyChecks } from "../support/black-box/keys.ts";
import { leftoverChecks } from "../support/black-box/leftovers.ts";
import { listingChecks } from "../support/black-box/listing.ts";
import { lossChecks } from "../support/black-box/losses.ts";
import { pageChecks } from "../support/black-box/pages.ts";
import { patchChecks } from "../support/black-box/patches.ts";
import { readChecks } from "../support/black-box/reads.ts";
import type { Served } from "../support/black-box/served.ts";
import { quiet } from "../support/black-box/served.ts";
import { writeChecks } from "../support/black-box/writes.ts";
import { runtimeProblem, RUNTIMES } from "../support/runtimes.ts";
import { startServe } from "../support/serve.ts";

describe.each(RUNTIMES)("the store on %s", (runtime) => {
  const problem = runtimeProblem(runtime);
  let running: Served | null = null;
  const served = (): Served => {
    if (running === null) throw new Error("The store did not start");
    return running;
  };

  beforeAll(async () => {
    if (problem !== null) return;
    const store = await startServe({ runtime });
    running = { store, client: new StoreClient(store.url) };
  });
  afterAll(async () => {
    running?.client[Symbol.dispose]();
    await running?.store[Symbol.asyncDispose]();
  });
  beforeEach((context) => {
    if (problem !== null && !process.env["CI"]) context.skip(problem);
  });

  contentChecks(served);
  readChecks(served);
  writeChecks(served);
  keyChecks(served);
  listingChecks(served);
  documentChecks(served);
  patchChecks(served);
  pageChecks(served, runtime);
  leftoverChecks(runtime, problem);
  lossChecks(runtime);

  test("after all of this nothing is left to do, and it stops cleanly", async () => {
    const { store, client } = served();
    await quiet(client);
    expect(store.logs()).not.toMatch(/"level":50|ERROR/);
    expect(store.logs()).not.toContain('"code":"internal"');
    expect(await store.stop()).toEqual({ code: 0, signal: null });
  });
});

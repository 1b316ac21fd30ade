import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestRest, type TestRest } from "../../support/rest-server.ts";
import { createTestDesk, type TestDesk } from "../../support/test-desk.ts";

let rest: TestRest;
let desk: TestDesk;
beforeAll(async () => {
  desk = createTestDesk();
  rest = await startTestRest({}, { desk });
});
beforeEach(() => {
  desk.calls.length = 0;
});
afterAll(() => rest.close());

const JSON_TYPE = { "content-type": "application/json" };

async function call(method: string, path: string, body?: string, headers: Record<string, string> = {}) {
  const response = await fetch(rest.url + path, { method, headers, ...(body === undefined ? {} : { body }) });
  const answer = (await response.json().catch(() => null)) as Record<string, unknown> | null;
  return { status: response.status, headers: response.headers, answer };
}

describe("GET /cluster/healing", () => {
  test("tells all of it", async () => {
    const { status, answer, headers } = await call("GET", "/cluster/healing");
    expect(status).toBe(200);
    expect(headers.get("cache-control")).toBe("no-store");
    expect(answer).toMatchObject({ leader: "healer-1", replicationLag: 4, waiting: [0, 3, 1] });
  });
});

describe("POST /cluster/recovery/<node>", () => {
  test("answers 202 with the job and where to look for it", async () => {
    const { status, answer, headers } = await call("POST", "/cluster/recovery/n2");
    expect([status, answer?.["kind"], answer?.["node"]]).toEqual([202, "recover_node", "n2"]);
    const place = headers.get("location") as string;
    expect(place).toBe(`/cluster/healing/jobs/${String(answer?.["id"])}`);
    expect(await call("GET", place)).toMatchObject({ status: 200, answer });
  });

  test.each([
    ["/cluster/recovery/n9", 404, "node_unknown"],
    ["/cluster/recovery/N%00", 404, "node_unknown"],
    ["/cluster/recovery/%zz", 400, "parameter_invalid"],
    ["/cluster/recovery/n2?force=1", 400, "parameter_invalid"],
  ])("refuses %s", async (path, status, code) => {
    expect(await call("POST", path)).toMatchObject({ status, answer: { code } });
    expect(desk.calls).toEqual([]);
  });
});

describe("POST /cluster/healing/<job>", () => {
  test.each(["audit", "collect", "balance", "scrub", "compact"])("starts %s, of one node or of all", async (kind) => {
    expect((await call("POST", `/cluster/healing/${kind}`)).status).toBe(202);
    expect((await call("POST", `/cluster/healing/${kind}?node=n1`)).status).toBe(202);
    expect(desk.calls).toEqual([`start ${kind} all`, `start ${kind} n1`]);
  });

  test("refuses what is no job, a node that is none, and a body", async () => {
    expect(await call("POST", "/cluster/healing/dance")).toMatchObject({
      status: 400,
      answer: { code: "parameter_invalid" },
    });
    expect(await call("POST", "/cluster/healing/audit?node=n9")).toMatchObject({ status: 404 });
    expect(await call("POST", "/cluster/healing/audit", "{}")).toMatchObject({
      status: 400,
      answer: { code: "request_malformed" },
    });
    expect(await call("GET", "/cluster/healing/jobs/none")).toMatchObject({
      status: 404,
      answer: { code: "job_unknown" },
    });
    expect(desk.calls).toEqual([]);
  });
});

describe("PUT and PATCH /cluster/healing/tracks/<track>", () => {
  test("PATCH changes what it names, PUT everything", async () => {
    const path = "/cluster/healing/tracks/repair";
    const patched = await call("PATCH", path, '{"bytesPerSecond":1048576}', JSON_TYPE);
    expect(patched).toMatchObject({ status: 200, answer: { repair: { paused: false, bytesPerSecond: 1_048_576 } } });
    const put = await call("PUT", path, '{"paused":true}', JSON_TYPE);
    expect(put.answer).toMatchObject({ repair: { paused: true, bytesPerSecond: null } });
    expect(desk.calls).toEqual([
      'control repair {"bytesPerSecond":1048576}',
      'control repair {"paused":true,"bytesPerSecond":null}',
    ]);
  });

  test.each([
    ["scrub", '{"paused":"yes"}', JSON_TYPE, 400, "json_invalid"],
    ["scrub", '{"pausd":true}', JSON_TYPE, 400, "json_invalid"],
    ["scrub", '{"bytesPerSecond":-1}', JSON_TYPE, 400, "json_invalid"],
    ["scrub", '{"bytesPerSecond":1.5}', JSON_TYPE, 400, "json_invalid"],
    ["scrub", '{"bytesPerSecond":1e99}', JSON_TYPE, 400, "json_invalid"],
    ["scrub", "{", JSON_TYPE, 400, "json_invalid"],
    ["scrub", "", JSON_TYPE, 400, "json_invalid"],
    ["scrub", "{}", {}, 415, "media_type_unsupported"],
    ["walk", "{}", JSON_TYPE, 400, "parameter_invalid"],
    ["scrub", `{"paused":true,"x":"${"x".repeat(5_000)}"}`, JSON_TYPE, 413, "body_too_large"],
  ])("refuse %s %s", async (track, body, headers, status, code) => {
    expect(await call("PATCH", `/cluster/healing/tracks/${track}`, body, headers)).toMatchObject({
      status,
      answer: { code },
    });
    expect(desk.calls).toEqual([]);
  });
});

describe("/cluster/nodes/<node>", () => {
  test("drains, takes that back, and removes", async () => {
    expect(await call("POST", "/cluster/nodes/n2/drain")).toMatchObject({ status: 200, answer: { draining: true } });
    expect(await call("POST", "/cluster/nodes/n2/undrain")).toMatchObject({ status: 200, answer: { draining: false } });
    expect(await call("DELETE", "/cluster/nodes/n2")).toMatchObject({ status: 200, answer: { removed: true } });
    expect(desk.calls).toEqual(["drain n2", "undrain n2", "remove n2"]);
  });

  test("says so when a node is still needed or nobody knows it", async () => {
    expect(await call("DELETE", "/cluster/nodes/n1")).toMatchObject({ status: 409, answer: { code: "node_in_use" } });
    expect(await call("POST", "/cluster/nodes/n9/drain")).toMatchObject({
      status: 404,
      answer: { code: "node_unknown" },
    });
    const wrong = await call("GET", "/cluster/nodes/n1");
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "DELETE"]);
  });
});

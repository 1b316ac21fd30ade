import { describe, expect, test } from "vitest";
import { ERROR_CODES } from "../../../src/domain/errors.ts";
import { PROBLEMS, type ProblemKind } from "../../../src/gateway/rest/errors.ts";
import { renderLanding } from "../../../src/gateway/rest/landing.ts";
import { rawProblem } from "../../../src/gateway/rest/problem.ts";
import { createTestCluster } from "../../support/rest-server.ts";

describe("PROBLEMS", () => {
  test("tell a client nothing of our own faults, and when to come back where that helps", () => {
    for (const code of ERROR_CODES) {
      const { status, open, retryAfterS }: ProblemKind = PROBLEMS[code];
      if (status === 500) expect(open, code).toBe(false);
      if (status === 503 || status === 429 || status === 507) expect(retryAfterS, code).toBeGreaterThan(0);
    }
  });
});

describe("rawProblem()", () => {
  test.each([400, 408, 431] as const)("is a whole answer with status %i", (status) => {
    const [head = "", body = ""] = rawProblem(status, "id").split("\r\n\r\n");
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(head).toContain(`Content-Length: ${body.length}`);
    expect(head).toContain("Connection: close");
    expect(JSON.parse(body)).toMatchObject({ status, requestId: "id" });
  });
});

describe("renderLanding()", () => {
  const about = { version: "1.2.3", runtime: "node 24" };

  test("tells what runs and gives lines for the host that was asked", () => {
    const page = renderLanding({ cluster: createTestCluster(["live", "down"]), about }, "store.example:8000");
    expect(page).toContain("1.2.3");
    expect(page).toContain("node 24");
    expect(page).toContain("n2 (down)");
    expect(page).toContain("curl http://store.example:8000/objects/hello");
  });

  test("takes nothing from outside as markup", () => {
    const page = renderLanding(
      { cluster: createTestCluster(), about: { version: "<b>", runtime: "&" } },
      `"><script>alert('x')</script>`,
    );
    expect(page).not.toContain("<script");
    expect(page).not.toContain("<b>");
    expect(page).toContain("&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)");
  });

  test("loads nothing from elsewhere and runs nothing", () => {
    const page = renderLanding({ cluster: createTestCluster(), about }, "h");
    expect(page).not.toMatch(/<script|<link|<img|<iframe|@import|url\(/);
    expect(page).toContain('<html lang="en">');
  });
});

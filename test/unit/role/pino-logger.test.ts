import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const MODULE = join(import.meta.dirname, "../../../src/role/pino-logger.ts");

/** What a process with such a logger writes while it runs `script`. */
function logged(options: { level: string; format: "auto" | "json" | "text" }, script: string) {
  const source = `
    import { createPinoLogger } from ${JSON.stringify(MODULE)};
    const logger = createPinoLogger(${JSON.stringify(options)});
    ${script}
    // As the command line does at its end: why a process stopped is the line that matters most.
    process.exit(3);
  `;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", source], { encoding: "utf8" });
  expect([child.status, child.stdout]).toEqual([3, ""]);
  return child.stderr.split("\n").filter((line) => line !== "");
}

const SCRIPT = `
  logger.debug({}, "too quiet");
  logger.info({ node: "node-3" }, "one");
  const child = logger.child({ request: "r1" });
  child.warn({ blob: "b", code: "node_full", count: 2, nested: { a: [1] } }, "two");
  child.child({ part: "hot" }).error({ cause: 'line\\nbreak "quoted"' }, "three");
`;

describe("createPinoLogger()", () => {
  it.each(["json", "auto"] as const)("writes one JSON document per line on stderr as %s into a pipe", (format) => {
    const lines = logged({ level: "info", format }, SCRIPT).map((line) => JSON.parse(line) as object);
    expect(lines).toMatchObject([
      { level: 30, node: "node-3", msg: "one" },
      { level: 40, request: "r1", blob: "b", code: "node_full", count: 2, nested: { a: [1] }, msg: "two" },
      { level: 50, request: "r1", part: "hot", cause: 'line\nbreak "quoted"', msg: "three" },
    ]);
    for (const line of lines) expect(Object.keys(line), "nothing about the machine").not.toContain("hostname");
  });

  it("writes lines for people, time and level first", () => {
    const lines = logged({ level: "info", format: "text" }, SCRIPT);
    expect(lines.slice(0, 2).map((line) => line.replace(/^\d\d:\d\d:\d\d\.\d{3} /, "TIME "))).toEqual([
      "TIME info one node=node-3",
      'TIME WARN two request=r1 blob=b code=node_full count=2 nested={"a":[1]}',
    ]);
    expect(lines[2]).toMatch(/ ERROR three request=r1 part=hot cause=/);
  });

  it("holds its tongue below the level, and always at silent", () => {
    expect(logged({ level: "error", format: "json" }, SCRIPT)).toHaveLength(1);
    expect(logged({ level: "silent", format: "text" }, SCRIPT)).toEqual([]);
    expect(logged({ level: "debug", format: "text" }, SCRIPT)[0]).toContain("debug too quiet");
  });
});

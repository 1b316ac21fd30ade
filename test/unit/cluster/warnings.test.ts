import { describe, expect, it } from "vitest";
import { createWarningFilter, warningOf } from "../../../cluster/warnings.ts";

describe("warningOf()", () => {
  it("finds what a process of ours warns of, with its fields", () => {
    const line = JSON.stringify({ level: 40, time: 1, node: "node-3", msg: "a node did not take a blob" });
    expect(warningOf("gateway", line)).toBe("a node did not take a blob node=node-3");
    expect(warningOf("node", JSON.stringify({ level: 50, time: 1, msg: "fenced" }))).toBe("fenced");
  });

  it("leaves out what is no warning, and what is no log line", () => {
    for (const line of [
      JSON.stringify({ level: 30, time: 1, msg: "open" }),
      "Kintsugi node node-1 is ready at …",
      "{",
      "",
    ]) {
      expect(warningOf("healer", line)).toBeNull();
    }
  });

  it("shows of nats-server and nginx only what stops them: they report every lost connection as an error", () => {
    expect(warningOf("nats", "[7] 2026/01/01 00:00:00.000000 [ERR] Error trying to connect to route")).toBeNull();
    expect(warningOf("nats", "[7] 2026/01/01 00:00:00.000000 [FTL] no space")).toBe("no space");
    expect(warningOf("nginx", "2026/01/01 00:00:00 [error] 7#7: *1 connect() failed")).toBeNull();
    expect(warningOf("nginx", "2026/01/01 00:00:00 [emerg] 7#7: bind() failed")).toBe("bind() failed");
  });
});

describe("createWarningFilter()", () => {
  it("lets three warnings of a process through in ten seconds and says where the others are", () => {
    let nowMs = 0;
    const filter = createWarningFilter(() => nowMs);
    const shown = (name: string) => filter(name, "slow", `logs/${name}.log`);
    expect([shown("node-1"), shown("node-1"), shown("node-1"), shown("node-1")]).toEqual([
      "node-1: slow",
      "node-1: slow",
      "node-1: slow (more in logs/node-1.log)",
      null,
    ]);
    expect(shown("node-2")).toBe("node-2: slow");
    nowMs = 10_001;
    expect(shown("node-1")).toBe("node-1: slow");
  });
});

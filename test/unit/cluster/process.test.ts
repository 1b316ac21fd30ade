import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { startGuard } from "../../../cluster/guard.ts";
import type { ProcessPlan } from "../../../cluster/plan.ts";
import { ClusterProcess, type Exit, type ProcessEvents } from "../../../cluster/process.ts";
import { createRestarter } from "../../../cluster/restarts.ts";
import { until } from "../../support/black-box/served.ts";
import { temporaryDirectory } from "../../support/black-box/temporary-directory.ts";

const READY = "Kintsugi node node-1 is ready at ";
const SERVING = `console.log("${READY}http://127.0.0.1:1"); setInterval(() => {}, 1e6);`;

/** A process that runs one line of JavaScript instead of a node of the store. */
function planOf(dir: string, script: string, changes: Partial<ProcessPlan> = {}): ProcessPlan {
  return {
    ...{ name: "node-1", role: "node", command: process.execPath, args: ["-e", script], cwd: dir, env: process.env },
    ...{ url: "http://127.0.0.1:1", host: "127.0.0.1", ports: [], dataDir: dir, logFile: join(dir, "logs/node-1.log") },
    ...{ readiness: { kind: "line", start: READY }, readyMsMax: 20_000, stopSignal: "SIGTERM", stopMsMax: 20_000 },
    ...changes,
  };
}

async function started(script: string, changes: Partial<ProcessPlan> = {}, events: ProcessEvents = {}) {
  const temporary = await temporaryDirectory();
  const guard = startGuard();
  const child = new ClusterProcess(planOf(temporary.path, script, changes), guard, events);
  const dispose = async () => {
    await child.kill9();
    await guard.close();
    await temporary[Symbol.asyncDispose]();
  };
  const outcome = await child.start().then(
    () => null,
    (cause: unknown) => cause as Error,
  );
  return { child, dir: temporary.path, outcome, [Symbol.asyncDispose]: dispose };
}

/** A zombie is dead, however long its new parent takes to notice. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("ClusterProcess", () => {
  it("start() resolves when the process says that it is ready, and its output is in its log", async () => {
    await using run = await started(`console.error("opening"); ${SERVING}`);
    expect(run.outcome).toBeNull();
    expect(isAlive(run.child.pid)).toBe(true);
    await run.child.kill9();
    expect(run.child.pid).toBe(0);
    expect(run.child.logs()).toContain("opening\n");
    expect(await readFile(run.child.plan.logFile, "utf8")).toBe(run.child.logs());
  });

  it("start() names the process and shows its last lines when it ends at once", async () => {
    await using run = await started(`console.error("there is no disk"); process.exit(3);`);
    expect(run.outcome?.message).toBe("node-1 ended with exit code 3; it wrote:\n  there is no disk");
    expect(run.child.isRunning).toBe(false);
  });

  it("start() gives up on what is not ready in time, and ends it", async () => {
    await using run = await started("setInterval(() => {}, 1e6)", { readyMsMax: 200 });
    expect(run.outcome?.message).toBe("node-1 was not ready after 0.2 s and wrote nothing");
    expect(run.child.isRunning).toBe(false);
  });

  it("start() says when there is no such program", async () => {
    await using run = await started("", { command: "/no/such/program" });
    expect(run.outcome?.message).toMatch(/^node-1 could not be started; it wrote:\n.*ENOENT/);
  });

  it("stop() lets it end cleanly, even when it is paused", async () => {
    await using run = await started(`process.on("SIGTERM", () => process.exit(0)); ${SERVING}`);
    run.child.pause();
    expect(await run.child.stop()).toEqual({ code: 0, signal: null });
  });

  it("stop() kills what does not listen", async () => {
    await using run = await started(`process.on("SIGTERM", () => {}); ${SERVING}`, { stopMsMax: 200 });
    expect(await run.child.stop()).toEqual({ code: null, signal: "SIGKILL" });
  });

  it("tells of an end that nobody asked for, and of no other", async () => {
    const exits: Exit[] = [];
    const events: ProcessEvents = { onDied: (_, exit) => void exits.push(exit) };
    await using run = await started(SERVING, {}, events);
    process.kill(run.child.pid, "SIGKILL");
    await run.child.exited;
    expect(exits).toEqual([{ code: null, signal: "SIGKILL" }]);
    await run.child.start();
    await run.child.stop();
    expect(exits.length).toBe(1);
  });

  it("takes its own children along when it is killed", async () => {
    const script = `
      const child = require("node:child_process").spawn("sleep", ["1000"], { stdio: "inherit" });
      console.log("child " + child.pid); ${SERVING}`;
    await using run = await started(script);
    const pid = Number(/child (\d+)/.exec(run.child.logs())?.[1]);
    expect(isAlive(pid)).toBe(true);
    process.kill(run.child.pid, "SIGKILL");
    await run.child.exited;
    await until(
      async () => isAlive(pid),
      (alive) => !alive,
    );
  });
});

describe("startGuard()", () => {
  it("kills what it watches when the process that asked for it is killed", async () => {
    const script = `
      import { spawn } from "node:child_process";
      import { startGuard } from ${JSON.stringify(join(import.meta.dirname, "../../../cluster/guard.ts"))};
      const guard = startGuard();
      const pids = [1, 2].map(() => spawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).pid);
      for (const pid of pids) guard.watch(pid);
      guard.forget(pids[0]);
      console.log(pids.join(" "));
      setInterval(() => {}, 1e6);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(owner.stdout.setEncoding("utf8"), "data")) as [string];
    const [forgotten, watched] = line.trim().split(" ").map(Number) as [number, number];
    owner.kill("SIGKILL");
    await until(
      async () => isAlive(watched),
      (alive) => !alive,
    );
    expect(isAlive(forgotten)).toBe(true);
    process.kill(forgotten, "SIGKILL");
  });
});

describe("createRestarter()", () => {
  it("starts again what was killed, and says when it is back", async () => {
    const said: string[] = [];
    const stop = new AbortController();
    const onDied = createRestarter({
      restart: true,
      say: (line) => said.push(line),
      signal: stop.signal,
      delayMsMin: 10,
    });
    await using run = await started(SERVING, {}, { onDied: (child, exit) => void onDied(child, exit) });
    process.kill(run.child.pid, "SIGKILL");
    await until(
      async () => said.length,
      (count) => count === 2,
    );
    expect(said[0]).toBe("node-1 was ended by SIGKILL; it is started again in 0.01 s");
    expect(said[1]).toMatch(new RegExp(`^node-1 is back after [\\d.]+ s, now pid ${run.child.pid}$`));
    stop.abort();
  });

  it.each([
    [2, true, "ended with exit code 2"],
    [5, true, "ended with exit code 5"],
    [0, false, "ended with exit code 0"],
  ])("leaves it down after exit code %d with restarts %s", async (code, restart, words) => {
    const said: string[] = [];
    const { signal } = new AbortController();
    const onDied = createRestarter({ restart, say: (line) => said.push(line), signal, delayMsMin: 10 });
    await using run = await started(
      `setTimeout(() => process.exit(${code}), 150); ${SERVING}`,
      {},
      { onDied: (child, exit) => void onDied(child, exit) },
    );
    await run.child.exited;
    await until(
      async () => said.length,
      (count) => count === 1,
    );
    expect(said[0]).toBe(`node-1 ${words} and stays down; its log is ${run.child.plan.logFile}`);
    expect(run.child.isRunning).toBe(false);
  });

  it("waits longer each time it fails, and no more when everything stops", async () => {
    const said: string[] = [];
    const stop = new AbortController();
    const onDied = createRestarter({
      restart: true,
      say: (line) => said.push(line),
      signal: stop.signal,
      delayMsMin: 10,
    });
    // Ready the first time, broken ever after.
    const script = `
      const fs = require("node:fs");
      if (fs.existsSync("started")) { console.error("broken"); process.exit(1); }
      fs.writeFileSync("started", ""); ${SERVING}`;
    await using run = await started(script, {}, { onDied: (child, exit) => void onDied(child, exit) });
    process.kill(run.child.pid, "SIGKILL");
    await until(
      async () => said.length,
      (count) => count >= 3,
    );
    stop.abort();
    expect(said.slice(0, 3)).toEqual([
      "node-1 was ended by SIGKILL; it is started again in 0.01 s",
      "node-1 ended with exit code 1; it is started again in 0.02 s",
      "node-1 ended with exit code 1; it is started again in 0.04 s",
    ]);
    await until(
      async () => run.child.isRunning,
      (running) => !running,
    );
  });
});

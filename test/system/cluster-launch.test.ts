/** `npm run cluster` as a person uses it: started, used through nginx, broken by hand, stopped with Ctrl-C. */
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openClusterDir } from "../../cluster/cluster-dir.ts";
import { findFreePorts, findPortProblem, portsFromBase } from "../../cluster/ports.ts";
import { until } from "../support/black-box/served.ts";
import { temporaryDirectory } from "../support/black-box/temporary-directory.ts";
import { sendRaw } from "../support/raw-http.ts";
import { cleanEnvironment, commandOf } from "../support/serve.ts";

const ROOT = join(import.meta.dirname, "../..");
const RUN = join(ROOT, "cluster/run.ts");
const COUNTS = { gateways: 2, nodes: 3, healers: 2, natsServers: 3 };
const FEW = ["--gateways", "2", "--nodes", "3"];
/** nginx is not among them: it overwrites its environment, by which processes are found here. */
const MARKED_COUNT = 10;

type Run = AsyncDisposable & {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
  /** Resolves when this stands in the output. */
  says(text: string | RegExp): Promise<string>;
  /** As a terminal and npm do it together: to every process of the group, and once more to the first. */
  pressCtrlC(): Promise<number | null>;
  /** Processes that carry this run's mark. */
  alive(): number[];
};

function runCluster(args: readonly string[]): Run {
  const mark = randomUUID();
  const [command, ...prefix] = commandOf("node");
  const child = spawn(command, [...prefix, RUN, ...args], {
    cwd: ROOT,
    env: cleanEnvironment({ CLUSTER_RUN_MARK: mark }),
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  }
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  const pid = child.pid as number;
  return {
    ...{ child, exited },
    output: () => output,
    async says(text) {
      const look = async () => (child.exitCode === null ? (output.match(text)?.[0] ?? null) : "ended");
      const found = await until(look, (match) => match !== null, 90_000);
      if (output.match(text) === null) throw new Error(`it ended without saying ${String(text)}:\n${output}`);
      return found as string;
    },
    async pressCtrlC() {
      process.kill(-pid, "SIGINT");
      process.kill(pid, "SIGINT");
      return await exited;
    },
    alive: () => findMarked(`CLUSTER_RUN_MARK=${mark}`),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
      await until(
        async () => findMarked(`CLUSTER_RUN_MARK=${mark}`),
        (pids) => pids.length === 0,
      );
    },
  };
}

function findMarked(mark: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
    } catch {
      return false;
    }
  });
}

/** A base from which every port that a run takes is free. */
async function findFreeBase(): Promise<number> {
  for (;;) {
    const [base] = (await findFreePorts(1)) as [number];
    const problems = await Promise.all(portsOf(base).map((port) => findPortProblem("127.0.0.1", port)));
    if (problems.every((problem) => problem === null)) return base;
  }
}

function portsOf(base: number): number[] {
  const { front, gateways, nodes, healers, nats } = portsFromBase(base, base, COUNTS);
  return [front, ...gateways, ...nodes, ...healers, ...nats.flatMap((ports) => Object.values(ports))];
}

function pidsShownBy(run: Run): number[] {
  return [...run.output().matchAll(/^ {2}[\w-]+ +(\d+) +(?:http|nats):/gm)].map((match) => Number(match[1]));
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

function pidOf(run: Run, name: string): number {
  return Number(new RegExp(`^  ${name} +(\\d+) `, "m").exec(run.output())?.[1]);
}

const put = (url: string, target: string, body: string) =>
  sendRaw(url, `PUT ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
const get = (url: string, target: string) => sendRaw(url, `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`);

describe("npm run cluster", { timeout: 150_000 }, () => {
  it("serves odd keys through nginx and every gateway, mends what is killed, and leaves nothing behind", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    const base = await findFreeBase();
    const args = ["--dir", dir, "--base-port", String(base), ...FEW];
    const front = `http://127.0.0.1:${base}`;
    {
      await using run = runCluster(args);
      await run.says(`Kintsugi cluster is ready at ${front} `);
      expect(pidsShownBy(run).filter(isAlive).length).toBe(MARKED_COUNT + 1);
      // The launcher and its guard are two more.
      expect(run.alive().length).toBeGreaterThanOrEqual(MARKED_COUNT + 2);

      const targets = [
        "/objects/a//b/../c",
        "/objects/%2e%2e/x%2Fy",
        "/objects/caf%C3%A9/+/%20/?bucket=odd",
        "/objects/trailing/",
      ];
      for (const target of targets) expect((await put(front, target, `body of ${target}`)).status).toBe(201);
      for (const url of [front, `http://127.0.0.1:${base + 1}`, `http://127.0.0.1:${base + 2}`]) {
        for (const target of targets) expect((await get(url, target)).body).toBe(`body of ${target}`);
      }
      const listed = JSON.parse((await get(front, "/objects?prefix=a")).body) as { objects: { key: string }[] };
      expect(listed.objects.map(({ key }) => key)).toEqual(["a//b/../c"]);

      process.kill(pidOf(run, "node-2"), "SIGKILL");
      await run.says("node-2 was ended by SIGKILL; it is started again in 2 s");
      expect((await get(front, targets[0] as string)).status).toBe(200);
      await run.says(/node-2 is back after [\d.]+ s, now pid \d+/);

      expect(await run.pressCtrlC()).toBe(0);
      expect(run.output()).toContain("Everything has stopped.");
      expect(run.alive()).toEqual([]);
      expect(pidsShownBy(run).filter(isAlive)).toEqual([]);
      for (const port of portsOf(base)) expect(await findPortProblem("127.0.0.1", port)).toBeNull();
      // In order: whoever stands on NATS has gone before it, so nobody missed it.
      for (const name of ["gateway-1", "node-1", "healer-1"]) {
        expect(await readFile(join(dir, "logs", `${name}.log`), "utf8")).not.toContain("connection to NATS was lost");
      }
      for (const name of ["cluster-secret", "nats-password"]) {
        expect(run.output()).not.toContain((await readFile(join(dir, "secrets", name), "utf8")).trim());
      }
    }
    await using again = runCluster(args);
    await again.says("is ready at");
    expect((await get(front, "/objects/a//b/../c")).body).toBe("body of /objects/a//b/../c");

    // What cannot start beside it says why, and disturbs nothing.
    for (const [otherArgs, reason] of [
      [args, /^Another cluster runs with its data in /m],
      [
        ["--dir", join(temporary.path, "other"), "--base-port", String(base)],
        new RegExp(`^Cannot start nginx on 127.0.0.1:${base}: it is in use`, "m"),
      ],
    ] as const) {
      await using other = runCluster(otherArgs);
      expect(await other.exited).toBe(1);
      expect(other.output()).toMatch(reason);
      expect(other.alive()).toEqual([]);
    }
    expect((await get(front, "/objects/a//b/../c")).status).toBe(200);
  });

  it("ends everything when it is killed itself", async () => {
    await using temporary = await temporaryDirectory();
    const base = await findFreeBase();
    await using run = runCluster(["--dir", join(temporary.path, "c"), "--base-port", String(base), ...FEW]);
    await run.says("Starting ");
    await until(
      async () => run.alive().length,
      (count) => count > 4,
    );
    run.child.kill("SIGKILL");
    await until(
      async () => run.alive(),
      (pids) => pids.length === 0,
    );
  });

  it("names the part that cannot start, with its last words, and leaves nothing behind", async () => {
    await using temporary = await temporaryDirectory();
    const dir = join(temporary.path, "cluster");
    const base = await findFreeBase();
    await (await openClusterDir(dir, { clean: false, ...COUNTS })).release();
    // A file stands where the node wants its folder.
    await writeFile(join(dir, "node-3"), "");
    await using run = runCluster(["--dir", dir, "--base-port", String(base), ...FEW]);
    expect(await run.exited).toBe(1);
    expect(run.output()).toMatch(/^node-3 ended with exit code \d+; it wrote:\n {2}\S/m);
    expect(run.alive()).toEqual([]);
  });
});

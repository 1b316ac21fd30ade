/** One more gateway of a running cluster, that a test may kill or stop at a step of a write. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { startGuard } from "../../cluster/guard.ts";
import { findFreePorts } from "../../cluster/ports.ts";
import { ClusterProcess, type Exit } from "../../cluster/process.ts";
import { compileCache, type LocalCluster } from "./cluster.ts";
import { until } from "./cluster-load.ts";
import { cleanEnvironment, commandOf } from "./serve.ts";

export type ExtraGateway = AsyncDisposable & {
  readonly name: string;
  readonly url: string;
  readonly isRunning: boolean;
  /** Resolves when it has ended, however that came. */
  readonly exited: Promise<Exit>;
  logs(): string;
  /** SIGSTOP: it keeps its connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Resolves when it is stopped, by whomever. */
  untilPaused(): Promise<void>;
};

export type ExtraGatewayOptions = {
  /** Unlike that of any other gateway that the cluster has had. */
  readonly name: string;
  /** A step of a write, such as `put.cell-sent:2`, and `/stop` where it is not to kill; null for none. */
  readonly killAt: string | null;
};

const HOST = "127.0.0.1";
const MAIN = join(import.meta.dirname, "../../src/main.ts");
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 15_000;
const PAUSED_MS_MAX = 30_000;

/** Resolves when it is ready for work. It ends with the test at the latest. */
export async function startExtraGateway(
  cluster: LocalCluster,
  { name, killAt }: ExtraGatewayOptions,
): Promise<ExtraGateway> {
  const [port] = (await findFreePorts(1)) as [number];
  const dataDir = join(cluster.dir, name);
  const flags = ["--config", cluster.configFile, "--name", name, "--host", HOST, "--port", String(port)];
  const [command, ...prefix] = commandOf("node");
  const guard = startGuard();
  const gateway = new ClusterProcess(
    {
      ...{ name, role: "gateway", command, host: HOST, url: `http://${HOST}:${port}`, ports: [port], dataDir },
      args: [...prefix, MAIN, "gateway", ...flags, "--data-dir", dataDir],
      cwd: cluster.dir,
      env: cleanEnvironment({ ...compileCache(), ...(killAt === null ? {} : { KINTSUGI_TEST_KILL_AT: killAt }) }),
      logFile: join(cluster.dir, "logs", `${name}.log`),
      readiness: { kind: "line", start: `Kintsugi gateway ${name} is ready at ` },
      readyMsMax: READY_MS_MAX,
      ...{ stopSignal: "SIGTERM", stopMsMax: STOP_MS_MAX },
    },
    guard,
  );
  const dispose = async () => {
    await gateway.kill9();
    await guard.close();
  };
  try {
    await gateway.start();
  } catch (cause) {
    await dispose();
    throw cause;
  }
  const { pid } = gateway;
  return {
    name,
    url: gateway.plan.url,
    get isRunning() {
      return gateway.isRunning;
    },
    exited: gateway.exited,
    logs: () => gateway.logs(),
    pause: () => gateway.pause(),
    resume: () => gateway.resume(),
    untilPaused: () => until(`${name} to be stopped`, PAUSED_MS_MAX, () => isPaused(pid)),
    [Symbol.asyncDispose]: dispose,
  };
}

async function isPaused(pid: number): Promise<boolean> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "state=", "-p", String(pid)]);
  return stdout.trim().startsWith("T");
}

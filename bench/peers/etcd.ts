/** A cluster of three etcd nodes from Debian's archive, spoken to over its JSON door as `curl` users would. */
import { spawn, type ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { unpackPackage } from "../../cluster/debian-archive.ts";
import { shareOfCores } from "../../cluster/plan.ts";
import { findFreePorts } from "../../cluster/ports.ts";

export type EtcdCluster = AsyncDisposable & { readonly urls: readonly string[] };

const NODES = 3;
const READY_MS_MAX = 30_000;

/** @throws {Error} when it cannot be fetched or does not elect a leader in time */
export async function startEtcd(directory: string): Promise<EtcdCluster> {
  const binary = join(unpackPackage({ name: "etcd-server", suite: null }), "usr/bin/etcd");
  const ports = await findFreePorts(NODES * 2);
  const nodes = Array.from({ length: NODES }, (_, index) => ({
    name: `etcd-${index + 1}`,
    client: `http://127.0.0.1:${ports[index * 2]}`,
    peer: `http://127.0.0.1:${ports[index * 2 + 1]}`,
  }));
  const initial = nodes.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const children = nodes.map(({ name, client, peer }) =>
    spawn(
      binary,
      [
        ...["--name", name, "--data-dir", join(directory, name), "--log-level", "error", "--logger", "zap"],
        ...["--listen-client-urls", client, "--advertise-client-urls", client],
        ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", initial],
      ],
      { stdio: "ignore", env: { ...shareOfCores(availableParallelism(), NODES), ...process.env } },
    ),
  );
  const dispose = async () => {
    await Promise.all(children.map(endChild));
  };
  try {
    for (const { client } of nodes) await waitUntilHealthy(client);
  } catch (cause) {
    await dispose();
    throw cause;
  }
  return { urls: nodes.map(({ client }) => client), [Symbol.asyncDispose]: dispose };
}

/** A request that sets one key. */
export function etcdPut(key: string, value: Buffer) {
  return { method: "POST", path: "/v3/kv/put", body: jsonOf({ key: base64(key), value: value.toString("base64") }) };
}

/** A linearizable read, which is etcd's default. */
export function etcdGet(key: string) {
  return { method: "POST", path: "/v3/kv/range", body: jsonOf({ key: base64(key) }) };
}

function jsonOf(fields: Readonly<Record<string, string>>): Buffer {
  return Buffer.from(JSON.stringify(fields));
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

async function waitUntilHealthy(url: string): Promise<void> {
  const overdueAt = performance.now() + READY_MS_MAX;
  for (;;) {
    const healthy = await fetch(`${url}/health`).then(
      async (response) => (await response.text()).includes('"true"'),
      () => false,
    );
    if (healthy) return;
    if (performance.now() > overdueAt) throw new Error(`etcd at ${url} has no leader after ${READY_MS_MAX} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}

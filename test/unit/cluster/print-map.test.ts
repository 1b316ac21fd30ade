import { describe, expect, it } from "vitest";
import { planCluster } from "../../../cluster/plan.ts";
import { portsFromBase } from "../../../cluster/ports.ts";
import { clusterMap } from "../../../cluster/print-map.ts";

const counts = { gateways: 2, nodes: 3, healers: 1, natsServers: 1 };
const plan = planCluster({
  dir: "/home/me/kintsugi/data/cluster",
  ...{ counts, nodesFounded: 3, ports: portsFromBase(8_000, 8_000, counts) },
  programs: { kintsugi: ["node"], natsServer: "nats-server", nginx: "nginx" },
  natsPassword: "a-password",
  cores: 2,
  env: {},
});
const shown = {
  plan,
  pidOf: (name: string) => 1_000 + plan.processes.findIndex((process) => process.name === name),
  startedInMs: 2_345,
  problems: [],
  restart: true,
  cwd: "/home/me/kintsugi",
};

describe("clusterMap()", () => {
  it("shows who is where, what to try and what to break", () => {
    expect(clusterMap(shown)).toMatchInlineSnapshot(`
      "Kintsugi cluster is ready at http://127.0.0.1:8000 after 2.3 s

        NAME       PID   ADDRESS                WHAT IT DOES
        nginx      1000  http://127.0.0.1:8000  spreads requests over the gateways
        gateway-1  1001  http://127.0.0.1:8001  REST and NATS in front, hashing, coding, commits
        gateway-2  1002  http://127.0.0.1:8002  REST and NATS in front, hashing, coding, commits
        node-1     1003  http://127.0.0.1:8101  stores shards
        node-2     1004  http://127.0.0.1:8102  stores shards
        node-3     1005  http://127.0.0.1:8103  stores shards
        healer-1   1006  http://127.0.0.1:8201  recovers, repairs, collects; one of them leads
        nats-1     1007  nats://127.0.0.1:8301  metadata and write-ahead log

      Data, secrets and logs are in data/cluster: NAME/, secrets/, logs/NAME.log

      Try it in another terminal:
        curl -sS -T package-lock.json 'http://127.0.0.1:8000/objects/lock?strategy=ec'
        curl -sS http://127.0.0.1:8002/objects/lock | cmp - package-lock.json && echo identical    # through another gateway
        npx kintsugi status --url http://127.0.0.1:8000
        KINTSUGI_NATS="nats://kintsugi:$(cat data/cluster/secrets/nats-password)@127.0.0.1:8301" npx kintsugi ls    # over NATS

      See it heal: kill any of them while you put and get; each comes back by itself:
        kill -9 1003    # node-1
        kill -9 1001    # gateway-1
        kill -9 1007    # nats-1

      Ctrl-C stops everything in order."
    `);
  });

  it("tells what is not well instead of calling the cluster ready", () => {
    const map = clusterMap({ ...shown, problems: ["gateway-1: no healer leads"], restart: false });
    expect(map).not.toContain("ready");
    expect(map).toContain("  gateway-1: no healer leads\n");
    expect(map).toContain("what ends stays down");
  });

  it("names a folder elsewhere by its whole path", () => {
    expect(clusterMap({ ...shown, cwd: "/tmp" })).toContain("in /home/me/kintsugi/data/cluster:");
  });
});

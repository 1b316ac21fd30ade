import { parse } from "yaml";
import { describe, expect, it } from "vitest";
import { codeFor, planCluster, type PlanInput } from "../../../cluster/plan.ts";
import { portsFromBase } from "../../../cluster/ports.ts";
import { readConfig } from "../../../src/config.ts";

const COUNTS = { gateways: 3, nodes: 6, healers: 2, natsServers: 3 };
const PASSWORD = "a-password";

function inputOf(changes: Partial<PlanInput> = {}): PlanInput {
  return {
    dir: "/cluster",
    counts: COUNTS,
    nodesFounded: COUNTS.nodes,
    ports: portsFromBase(8_000, 8_000, COUNTS),
    programs: { kintsugi: ["node", "main.ts"], natsServer: "nats-server", nginx: "nginx" },
    natsPassword: PASSWORD,
    cores: 4,
    env: { PATH: "/bin" },
    ...changes,
  };
}

const textOf = (plan: ReturnType<typeof planCluster>, path: string) =>
  plan.files.find((file) => file.path === path)?.text;
const processOf = (plan: ReturnType<typeof planCluster>, name: string) => {
  const found = plan.processes.find((process) => process.name === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
};

describe("planCluster()", () => {
  it("gives every process its name, port, folder and log", () => {
    const plan = planCluster(inputOf());
    expect(plan.url).toBe("http://127.0.0.1:8000");
    expect(plan.processes.map(({ name, url }) => `${name} ${url}`)).toEqual([
      "nginx http://127.0.0.1:8000",
      ...["gateway-1 http://127.0.0.1:8001", "gateway-2 http://127.0.0.1:8002", "gateway-3 http://127.0.0.1:8003"],
      ...[1, 2, 3, 4, 5, 6].map((number) => `node-${number} http://127.0.0.1:${8_100 + number}`),
      ...["healer-1 http://127.0.0.1:8201", "healer-2 http://127.0.0.1:8202"],
      ...["nats-1 nats://127.0.0.1:8301", "nats-2 nats://127.0.0.1:8302", "nats-3 nats://127.0.0.1:8303"],
    ]);
    const ports = plan.processes.flatMap((process) => process.ports);
    expect(new Set(ports).size).toBe(ports.length);
    const node = processOf(plan, "node-2");
    expect([node.command, ...node.args].join(" ")).toBe(
      "node main.ts node --config /cluster/kintsugi.yaml --name node-2 --host 127.0.0.1 --port 8102 --data-dir /cluster/node-2",
    );
    expect(node).toMatchObject({ logFile: "/cluster/logs/node-2.log", env: { PATH: "/bin" } });
  });

  it("gives each of several nats-servers its share of the cores, unless the environment says how many", () => {
    const coresOf = (changes: Partial<PlanInput>) =>
      processOf(planCluster(inputOf(changes)), "nats-1").env["GOMAXPROCS"];
    expect(coresOf({ cores: 2 })).toBe("1");
    expect(coresOf({ cores: 16 })).toBe("6");
    expect(coresOf({ cores: 16, env: { GOMAXPROCS: "9" } })).toBe("9");
    const counts = { ...COUNTS, natsServers: 1 };
    expect(coresOf({ cores: 16, counts })).toBeUndefined();
  });

  it("writes settings that every process accepts, with the secrets in files of their own", () => {
    const plan = planCluster(inputOf());
    const yaml = textOf(plan, "/cluster/kintsugi.yaml") as string;
    const result = readConfig({
      configFile: "/cluster/kintsugi.yaml",
      flags: [],
      env: {},
      readFile: (path) => (path === "/cluster/kintsugi.yaml" ? yaml : `${path}-a-secret\n`),
      cores: 2,
    });
    if (!result.ok) throw new Error(JSON.stringify(result.problems));
    expect(result.config).toMatchObject({
      nats: { servers: plan.natsUrls, user: "kintsugi", monitorUrls: plan.monitorUrls, allowUnsafe: false },
      credentials: {
        clusterSecret: "/cluster/secrets/cluster-secret-a-secret",
        natsPassword: "/cluster/secrets/nats-password-a-secret",
      },
      http: { trustedProxies: ["127.0.0.1"] },
      cluster: { streamReplicas: 3, bucketDefaults: { k: 4, m: 2 } },
    });
    expect(yaml).not.toContain(PASSWORD);
  });

  it("keeps the password out of command lines and of files that others may read", () => {
    const plan = planCluster(inputOf());
    expect(JSON.stringify(plan.processes)).not.toContain(PASSWORD);
    const withPassword = plan.files.filter(({ text }) => text.includes(PASSWORD));
    expect(withPassword.map(({ path, mode }) => [path, mode])).toEqual([
      ["/cluster/nats-1/nats.conf", 0o600],
      ["/cluster/nats-2/nats.conf", 0o600],
      ["/cluster/nats-3/nats.conf", 0o600],
    ]);
  });

  it("puts the first gateway where clients look when there is no nginx", () => {
    const plan = planCluster(inputOf({ programs: { kintsugi: ["node"], natsServer: "nats-server", nginx: null } }));
    expect(plan.url).toBe("http://127.0.0.1:8000");
    expect(processOf(plan, "gateway-1").ports).toEqual([8_000]);
    expect(processOf(plan, "gateway-2").ports).toEqual([8_002]);
    expect(plan.processes.some(({ role }) => role === "nginx")).toBe(false);
    expect(parse(textOf(plan, plan.configFile) as string)).toMatchObject({ http: { trustedProxies: [] } });
  });

  it("opens the front alone to other machines", () => {
    const plan = planCluster(inputOf({ frontHost: "0.0.0.0" }));
    const open = plan.processes.filter(({ host }) => host !== "127.0.0.1");
    expect(open.map(({ name }) => name)).toEqual(["nginx"]);
    expect(textOf(plan, "/cluster/nginx/nginx.conf")).toContain("listen 0.0.0.0:8000 ");
    expect(plan.url).toBe("http://127.0.0.1:8000");
  });

  it("keeps the erasure code that the cluster was made with when nodes come or go", () => {
    const counts = { ...COUNTS, nodes: 3 };
    const settings = (nodesFounded: number) =>
      parse(textOf(planCluster(inputOf({ counts, nodesFounded })), "/cluster/kintsugi.yaml") as string) as unknown;
    expect(settings(6)).toMatchObject({ cluster: { bucketDefaults: { k: 4, m: 2 } } });
    expect(settings(3)).toMatchObject({ cluster: { bucketDefaults: { k: 2, m: 1 } } });
  });

  it("lays settings, environment, addresses and command prefixes of a test over its own", () => {
    const plan = planCluster(
      inputOf({
        settings: { logLevel: "debug", cluster: { bucketDefaults: { m: 1 } } },
        envOf: (name) => (name === "gateway-1" ? { KINTSUGI_TEST_KILL_AT: "put.committed" } : {}),
        hostOf: (name) => (name === "nats-2" ? "10.0.0.2" : "127.0.0.1"),
        prefixOf: (name) => (name === "nats-2" ? ["ip", "netns", "exec", "two"] : []),
      }),
    );
    const yaml = parse(textOf(plan, "/cluster/kintsugi.yaml") as string) as unknown;
    expect(yaml).toMatchObject({ logLevel: "debug", cluster: { streamReplicas: 3, bucketDefaults: { k: 4, m: 1 } } });
    expect(processOf(plan, "gateway-1").env["KINTSUGI_TEST_KILL_AT"]).toBe("put.committed");
    expect(processOf(plan, "gateway-2").env["KINTSUGI_TEST_KILL_AT"]).toBeUndefined();
    expect(processOf(plan, "nats-2")).toMatchObject({ command: "ip", url: "nats://10.0.0.2:8302" });
    expect(textOf(plan, "/cluster/nats-1/nats.conf")).toContain("@10.0.0.2:8502");
    expect(plan.monitorUrls[1]).toBe("http://10.0.0.2:8402");
  });
});

describe("codeFor()", () => {
  it.each([
    [3, 2, 1],
    [4, 2, 2],
    [5, 3, 2],
    [6, 4, 2],
    [12, 4, 2],
  ])("finds a code for %d nodes: %d + %d", (nodes, k, m) => {
    expect(codeFor(nodes)).toEqual({ k, m });
  });
});

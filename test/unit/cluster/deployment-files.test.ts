/** What `cluster/` offers for other machines, checked as far as that goes without a container engine. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { describe, expect, it } from "vitest";
import { findNatsServer } from "../../../cluster/nats-server.ts";
import { nginxConfig } from "../../../cluster/nginx.ts";
import { findNginx } from "../../../cluster/nginx-server.ts";
import { readConfig, type Config } from "../../../src/config.ts";
import { temporaryDirectory } from "../../support/black-box/temporary-directory.ts";

const ROOT = join(import.meta.dirname, "../../..");
const CLUSTER = join(ROOT, "cluster");

type Service = {
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly volumes?: readonly string[];
  readonly secrets?: readonly string[];
  readonly networks?: readonly string[];
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly ports?: readonly string[];
};
type Compose = {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
  readonly configs: Readonly<Record<string, { readonly file: string }>>;
};

const compose = parse(readFileSync(join(CLUSTER, "compose.yaml"), "utf8"), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const named = (kind: string) => services.filter(([name]) => name.startsWith(`${kind}-`));
const ROLES = ["gateway", "node", "healer"] as const;

function configOf(service: Service): Config {
  const env = Object.fromEntries(
    Object.entries(service.environment ?? {}).map(([name, value]) => [name, String(value)]),
  );
  const result = readConfig({
    ...{ configFile: null, flags: [], env, cores: 2 },
    readFile: (path) => (path.startsWith("/run/secrets/") ? `the secret in ${path}\n` : null),
  });
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

describe("compose.yaml", () => {
  it("runs three nats-servers, six nodes, three gateways, two healers and nginx", () => {
    const counts = [...ROLES, "nats"].map((kind) => named(kind).length);
    expect(counts).toEqual([3, 6, 2, 3]);
    expect(services.length).toBe(15);
  });

  it.each(ROLES.flatMap((role) => named(role).map(([name]) => [name, role] as const)))(
    "gives %s settings that the program accepts",
    (name, role) => {
      const service = compose.services[name] as Service;
      const config = configOf(service);
      const port = { gateway: 8_000, node: 8_100, healer: 8_200 }[role];
      expect(service.command).toEqual([role]);
      expect(config).toMatchObject({
        ...{ name, port, advertise: `${name}:${port}` },
        nats: { servers: [1, 2, 3].map((index) => `nats://nats-${index}:4222`), user: "kintsugi", allowUnsafe: false },
        credentials: {
          clusterSecret: "the secret in /run/secrets/cluster-secret",
          natsPassword: "the secret in /run/secrets/nats-password",
        },
        cluster: { streamReplicas: 3 },
      });
      expect(config.nats.monitorUrls.length).toBe(3);
      expect(service.volumes).toEqual([`${name}:/data`]);
      expect(service.restart).toBe("always");
      expect(Number.parseInt(service.stop_grace_period ?? "0", 10) * 1_000).toBeGreaterThan(config.timeouts.drainMs);
    },
  );

  it("keeps every part's data in a volume of its own", () => {
    const used = services.flatMap(([, service]) => (service.volumes ?? []).map((volume) => volume.split(":")[0]));
    expect(used.toSorted()).toEqual(Object.keys(compose.volumes).toSorted());
    expect(new Set(used).size).toBe(used.length);
  });

  it("publishes nginx alone, on loopback unless told otherwise", () => {
    const published = services.flatMap(([name, service]) => (service.ports ?? []).map((port) => `${name} ${port}`));
    expect(published).toEqual(["nginx ${KINTSUGI_PUBLISH:-127.0.0.1}:8000:8000"]);
    for (const [name, service] of services) {
      expect(service.networks, name).toEqual(name === "nginx" ? ["front", "backend"] : ["backend"]);
    }
  });

  it("mounts files that are there", () => {
    for (const { file } of Object.values(compose.configs)) expect(existsSync(join(CLUSTER, file)), file).toBe(true);
    expect(Object.keys(compose.secrets)).toEqual(["cluster-secret", "nats-password"]);
  });
});

describe("Dockerfile", () => {
  const text = readFileSync(join(CLUSTER, "Dockerfile"), "utf8");
  const lines = text.replaceAll("\\\n", " ").split("\n");

  it("copies only what there is, and all that the program needs", () => {
    const copied = lines.filter((line) => line.startsWith("COPY ") && !line.includes("--from=")).flatMap(sourcesOf);
    for (const path of copied) expect(existsSync(join(ROOT, path)), path).toBe(true);
    expect(copied).toEqual(expect.arrayContaining(["bin", "src", "workers", "package.json", "package-lock.json"]));
    const ignored = readFileSync(join(CLUSTER, "Dockerfile.dockerignore"), "utf8").split("\n");
    expect(copied.filter((path) => ignored.includes(path))).toEqual([]);
  });

  it("runs as somebody else than root, on the Node that the project runs on", () => {
    expect(lines.findLast((line) => line.startsWith("USER "))).toBe("USER node");
    const images = lines.filter((line) => line.startsWith("FROM ")).map((line) => line.split(" ")[1]);
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      dependencies: { node: string };
    };
    expect(new Set(images)).toEqual(new Set([`node:${dependencies.node.split(".")[0]}-slim`]));
  });

  it("asks the role for its health in words that are JavaScript", () => {
    const command = /HEALTHCHECK .*CMD (\[.*\])/.exec(lines.find((line) => line.startsWith("HEALTHCHECK")) ?? "")?.[1];
    const [node, flag, script] = JSON.parse(command ?? "[]") as string[];
    expect([node, flag]).toEqual(["node", "-e"]);
    const env = { ...process.env, KINTSUGI_PORT: "1" };
    const { status, stderr } = spawnSync(process.execPath, ["-e", script as string], { env, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 1, stderr: "" });
  });

  function sourcesOf(line: string): string[] {
    return line.split(/\s+/).slice(1, -1);
  }
});

describe("nats.conf", () => {
  const text = readFileSync(join(CLUSTER, "nats.conf"), "utf8");

  it("is one that a real nats-server accepts, also as the containers fill it in", async () => {
    await using temporary = await temporaryDirectory();
    const path = join(temporary.path, "nats.conf");
    await writeFile(path, text.replaceAll("NAME", "nats-1").replaceAll("PASSWORD", "0123e45"));
    const { status, stderr } = spawnSync(findNatsServer(), ["-t", "-c", path], { encoding: "utf8" });
    expect({ status, stderr }).toMatchObject({ status: 0 });
  });

  it("makes every acknowledged message durable", () => {
    expect(text).toMatch(/^ {2}sync_interval: always$/m);
  });
});

describe("nginx.conf", () => {
  const options = { listen: "8000", workers: "auto" as const, temporaryDir: "/tmp/nginx", pidFile: "/tmp/nginx.pid" };
  const gateways = named("gateway").map(([name]) => `${name}:8000`);

  it("is what the generator writes for the containers' names", async () => {
    const text = nginxConfig({ ...options, gateways, resolver: "127.0.0.11" });
    await expect(text).toMatchFileSnapshot(join(CLUSTER, "nginx.conf"));
  });

  it("is one that a real nginx accepts", async () => {
    await using temporary = await temporaryDirectory();
    // Names are looked up at once by an nginx that is too old to do it later, and these are a container's.
    const text = nginxConfig({
      ...{ ...options, listen: "127.0.0.1:8000", temporaryDir: "temporary", pidFile: "nginx.pid" },
      gateways: gateways.map((_, index) => `127.0.0.${index + 1}:8000`),
      resolver: null,
    });
    await mkdir(join(temporary.path, "logs"));
    await writeFile(join(temporary.path, "nginx.conf"), text);
    const args = ["-t", "-q", "-p", `${temporary.path}/`, "-c", "nginx.conf", "-e", "stderr"];
    const { status, stderr } = spawnSync(findNginx(), args, { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});

describe("systemd units", () => {
  const folder = join(CLUSTER, "systemd");
  const units = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")] as const);
  const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0;

  it("are there for every role", () => {
    expect(units.map(([name]) => name).toSorted()).toEqual([
      ...["kintsugi-gateway.service", "kintsugi-healer.service", "kintsugi-node@.service"],
    ]);
  });

  it.each(units)("%s starts its role, again after every end that a restart can mend", (name, text) => {
    const role = /kintsugi-(\w+)/.exec(name)?.[1];
    const values = new Map(
      text.split("\n").flatMap((line) => {
        const [key, value] = line.split(/=(.*)/);
        return line.startsWith("#") || value === undefined ? [] : [[key, value] as const];
      }),
    );
    expect(values.get("ExecStart")).toContain(`/src/main.ts ${role} --config /etc/kintsugi/kintsugi.yaml `);
    expect(values.get("Restart")).toBe("always");
    expect(values.get("RestartPreventExitStatus")).toBe("2 5");
    expect(Number(values.get("LimitNOFILE"))).toBeGreaterThanOrEqual(65_536);
    expect(Number(values.get("TimeoutStopSec"))).toBeGreaterThan(10);
    expect(values.get("User")).toBe("kintsugi");
    expect(values.get("ExecStart")).toContain(`--data-dir /var/lib/${values.get("StateDirectory")}`);
  });

  it("are such that systemd, where there is one, has nothing to object", async () => {
    if (!hasSystemd) return;
    await using temporary = await temporaryDirectory();
    for (const [name, text] of units) {
      // The program is not installed here.
      const installed = text.replace("/opt/kintsugi/node_modules/.bin/node", process.execPath);
      await writeFile(join(temporary.path, name), installed);
    }
    const paths = units.map(([name]) => join(temporary.path, name));
    const { status, stderr } = spawnSync("systemd-analyze", ["verify", ...paths], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});

describe("docs/deployment.md", () => {
  const text = readFileSync(join(ROOT, "docs/deployment.md"), "utf8");

  it("shows settings and variables that the program accepts", () => {
    const [yaml] = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map((match) => match[1] as string);
    const variables = [...text.matchAll(/^(KINTSUGI_\w+)=(.*)$/gm)].map((match) => [match[1], match[2]] as const);
    expect(variables.length).toBeGreaterThan(2);
    const result = readConfig({
      ...{ configFile: "kintsugi.yaml", flags: [], env: Object.fromEntries(variables), cores: 2 },
      readFile: (path) => (path === "kintsugi.yaml" ? (yaml as string) : "a secret of enough characters\n"),
    });
    expect(result).toMatchObject({ ok: true, config: { port: 8_100, advertise: "10.0.0.4:8100", zone: "rack-2" } });
  });

  it("links to files that are there", () => {
    for (const [, path] of text.matchAll(/\]\((?!http)([^)#]+)\)/g)) {
      expect(existsSync(join(ROOT, "docs", path as string)), path).toBe(true);
    }
  });
});

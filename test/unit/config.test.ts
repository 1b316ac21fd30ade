import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bucketSettings, environmentName, loadConfig, readConfig, type ConfigSources } from "../../src/config.ts";
import { formatConfigProblems } from "../../src/config/problems.ts";
import { listSettings } from "../../src/config/schema.ts";
import { isStoreError } from "../../src/domain/errors.ts";
import { parseBucketName } from "../../src/domain/ids.ts";

type Given = { yaml?: string; env?: Record<string, string>; set?: Record<string, string>; configFile?: string };

function sourcesOf({ yaml, env = {}, set = {}, configFile }: Given): ConfigSources {
  return {
    configFile: configFile ?? null,
    env,
    flags: Object.entries(set).map(([path, value]) => ({ path, value, flag: `--set ${path}` })),
    readFile: () => yaml ?? null,
    cores: 3,
  };
}

const load = (given: Given) => loadConfig(sourcesOf(given));

/** Every problem as one line of text, as the user sees them. */
function problemsWith(given: Given): string[] {
  const result = readConfig(sourcesOf(given));
  if (result.ok) return [];
  return formatConfigProblems(result.problems)
    .split("\n")
    .slice(1)
    .map((line) => line.trim());
}

describe("loadConfig() sources", () => {
  test("gives the documented defaults when nobody says anything", () => {
    const config = load({});
    expect(config).toMatchObject({ host: "127.0.0.1", port: null, dataDir: "./data", threads: 3, testKillAt: null });
    expect(config.memory.inFlightBytesMax).toBe(256 * 1024 * 1024);
    expect(config.cluster.nodes.map((node) => node.name)).toEqual([1, 2, 3, 4, 5, 6].map((n) => `node-${n}`));
    expect(config.cluster.bucketDefaults).toMatchObject({
      strategy: "auto",
      k: 4,
      m: 2,
      replicas: 3,
      consistency: "quorum",
      inlineBytesMax: 512,
      replicationBytesMax: 64 * 1024,
      hybridBytesMin: 16 * 1024,
    });
    for (const name of "device_id battery_level status_code is_active last_sync_ts firmware_version view_count like_count user_id".split(
      " ",
    )) {
      expect(config.cluster.bucketDefaults.hotFields).toContain(name);
    }
  });

  test("a flag beats the environment, which beats the file, which beats the default", () => {
    const yaml = "port: 1\nhost: 10.0.0.1\ndataDir: /file\nlogLevel: error\n";
    const env = { KINTSUGI_PORT: "2", KINTSUGI_HOST: "10.0.0.2", KINTSUGI_DATA_DIR: "/env" };
    const config = load({ yaml, env, set: { port: "3", host: "10.0.0.3" } });
    expect(config).toMatchObject({ port: 3, host: "10.0.0.3", dataDir: "/env", logLevel: "error", logFormat: "auto" });
  });

  test("the last of two flags for one setting wins", () => {
    const sources = sourcesOf({});
    const flags = ["1", "2"].map((value) => ({ path: "port", value, flag: "--port" }));
    expect(loadConfig({ ...sources, flags }).port).toBe(2);
  });

  test("reads every setting from the environment under its documented name", () => {
    const values: Record<string, string> = {
      host: "::1",
      port: "0",
      name: "gateway-7",
      advertise: "10.0.0.7:8100",
      region: "eu",
      zone: "eu-1",
      weight: "2.5",
      dataDir: "/srv/k",
      logLevel: "debug",
      logFormat: "json",
      threads: "7",
      "memory.inFlightBytesMax": "64MiB",
      "storage.volumeBytesMax": "32MiB",
      "storage.freeBytesMin": "0",
      "cache.bytesMax": "16MiB",
      "cache.entryBytesMax": "2MiB",
      "cache.ttlMs": "1m",
      "healing.rebuildAfterMs": "2m",
      "healing.auditEveryMs": "3h",
      "healing.orphanGraceMs": "4h",
      "healing.undeleteMs": "5h",
      "healing.keepRecordsMs": "6s",
      "healing.repairBytesPerSecond": "off",
      "healing.repairBytesInFlight": "32MiB",
      "healing.scrubBytesPerSecond": "1MiB",
      "healing.scrubEveryMs": "48h",
      "healing.compactBelow": "0.25",
      "healing.compactBytesPerSecond": "2MiB",
      "healing.balanceEveryMs": "7m",
      "healing.balanceSpread": "0.2",
      "healing.balanceBytesMin": "1MiB",
      "healing.heatReadsMin": "100",
      "healing.heatCopiesMax": "3",
      "healing.heatBytesMax": "9MiB",
      "healing.heatCoolMs": "8m",
      "timeouts.metadataMs": "1s",
      "timeouts.nodeMs": "2s",
      "timeouts.stragglerMs": "3ms",
      "timeouts.memoryMs": "4",
      "timeouts.drainMs": "1m",
      "http.objectBytesMax": "5GB",
      "http.connectionsMax": "9",
      "http.bodyBytesPerSecondMin": "10",
      "http.writesPerSecondMax": "11",
      "http.trustedProxies": "10.0.0.0/8, ::1",
      "nats.servers": "nats://10.0.0.1:4222, tls://10.0.0.2:4222",
      "nats.user": "kintsugi",
      "nats.credsFile": "/etc/k.creds",
      "nats.tlsCaFile": "/etc/ca.pem",
      "nats.tlsCertFile": "/etc/cert.pem",
      "nats.tlsKeyFile": "/etc/key.pem",
      "nats.monitorUrls": "http://10.0.0.1:8222",
      "nats.allowUnsafe": "yes",
      "nats.requestsMax": "12",
      "secrets.clusterSecretFile": "off",
      "secrets.natsPasswordFile": "off",
      "secrets.natsTokenFile": "off",
      "events.ageMsMax": "24h",
      "events.bytesMax": "2GiB",
      "cluster.name": "fleet",
      "cluster.metadataStreams": "8",
      "cluster.streamReplicas": "5",
      "cluster.nodes": "[{name: a, zone: z1, weight: 2}, {name: b}, {name: c}]",
      "cluster.bucketDefaults.strategy": "ec",
      "cluster.bucketDefaults.k": "2",
      "cluster.bucketDefaults.m": "1",
      "cluster.bucketDefaults.replicas": "2",
      "cluster.bucketDefaults.consistency": "all",
      "cluster.bucketDefaults.inlineBytesMax": "1",
      "cluster.bucketDefaults.replicationBytesMax": "2",
      "cluster.bucketDefaults.hybridBytesMin": "3",
      "cluster.bucketDefaults.hotFields": "a,b",
      "cluster.buckets": "{telemetry: {consistency: one}}",
    };
    // A setting that is added without a line here would otherwise go untested.
    expect(Object.keys(values)).toEqual(listSettings().map((entry) => entry.path.join(".")));
    const env = Object.fromEntries(
      Object.entries(values).map(([path, value]) => [environmentName(path.split(".")), value]),
    );
    const config = load({ env });
    expect(config).toMatchObject({
      host: "::1",
      port: 0,
      threads: 7,
      memory: { inFlightBytesMax: 64 * 1024 * 1024 },
      timeouts: { metadataMs: 1_000, nodeMs: 2_000, stragglerMs: 3, memoryMs: 4, drainMs: 60_000 },
      http: { objectBytesMax: 5e9, writesPerSecondMax: 11, trustedProxies: ["10.0.0.0/8", "::1"] },
    });
    expect(config.cluster.nodes[0]).toEqual({ name: "a", region: "local", zone: "z1", weight: 2 });
    expect(config.cluster.bucketDefaults).toMatchObject({ k: 2, m: 1, hotFields: ["a", "b"] });
    expect(bucketSettings(config, parseBucketName("telemetry")).consistency).toBe("one");
  });

  test("takes secrets from variables and files, never from settings", () => {
    const yaml = "secrets: {clusterSecretFile: /run/secret}";
    const readFile = (path: string) => (path === "/run/secret" ? "0123456789abcdef\n" : yaml);
    const sources = { ...sourcesOf({}), readFile };
    expect(loadConfig(sources).credentials).toEqual({
      clusterSecret: "0123456789abcdef",
      natsPassword: null,
      natsToken: null,
    });
    const env = { KINTSUGI_CLUSTER_SECRET: "another secret, long enough", KINTSUGI_NATS_PASSWORD: "p" };
    expect(loadConfig({ ...sources, env }).credentials).toMatchObject({
      clusterSecret: "another secret, long enough",
      natsPassword: "p",
    });
  });

  test("refuses a short cluster secret and a secret's file that is not there, without showing the secret", () => {
    const problems = problemsWith({ env: { KINTSUGI_CLUSTER_SECRET: "hunter2" } });
    expect(problems).toEqual(["KINTSUGI_CLUSTER_SECRET: the secret is too short: give at least 16 characters"]);
    const missing = { ...sourcesOf({}), readFile: () => null, env: { KINTSUGI_SECRETS_NATS_TOKEN_FILE: "/none" } };
    expect(() => loadConfig(missing)).toThrow("secrets.natsTokenFile: there is no file /none");
  });

  test("names variables by the words of the path", () => {
    expect(environmentName(["dataDir"])).toBe("KINTSUGI_DATA_DIR");
    expect(environmentName(["timeouts", "drainMs"])).toBe("KINTSUGI_TIMEOUTS_DRAIN_MS");
  });

  test("an empty variable counts as unset", () => {
    expect(load({ env: { KINTSUGI_PORT: "", KINTSUGI_TEST_KILL_AT: "" } })).toMatchObject({
      port: null,
      testKillAt: null,
      testBug: null,
    });
  });

  test("leaves variables of others and of the client alone", () => {
    expect(
      load({ env: { PATH: "/bin", KINTSUGI_URL: "http://x", KINTSUGI_NATS: "nats://x", MY_KINTSUGI_PORT: "1" } }).port,
    ).toBe(null);
  });

  test("takes the file from the flag, else from KINTSUGI_CONFIG, else kintsugi.yaml", () => {
    const opened: string[] = [];
    const readFile = (path: string) => (opened.push(path), "port: 1");
    const sources = { ...sourcesOf({}), readFile };
    loadConfig(sources);
    loadConfig({ ...sources, env: { KINTSUGI_CONFIG: "env.yaml" } });
    loadConfig({ ...sources, env: { KINTSUGI_CONFIG: "env.yaml" }, configFile: "flag.yaml" });
    expect(opened).toEqual(["kintsugi.yaml", "env.yaml", "flag.yaml"]);
  });

  test("is frozen all the way down", () => {
    const config = load({ yaml: "cluster:\n  buckets:\n    t: {k: 2}\n" });
    const frozen = (value: unknown): boolean =>
      typeof value !== "object" || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
    expect(frozen(config)).toBe(true);
  });
});

describe("loadConfig() buckets", () => {
  const yaml =
    "cluster:\n  bucketDefaults: {replicas: 2}\n  buckets:\n    cold: {k: 3, m: 1, hotFields: []}\n    constructor:\n";

  test("a bucket's own settings replace the defaults one by one", () => {
    const config = load({ yaml });
    expect(bucketSettings(config, parseBucketName("cold"))).toMatchObject({ k: 3, m: 1, replicas: 2, hotFields: [] });
    expect(bucketSettings(config, parseBucketName("other"))).toBe(config.cluster.bucketDefaults);
  });

  test("names that every object has are ordinary bucket names", () => {
    const config = load({ yaml: "" });
    expect(bucketSettings(config, parseBucketName("constructor"))).toBe(config.cluster.bucketDefaults);
    expect(bucketSettings(load({ yaml }), parseBucketName("constructor"))).toMatchObject({ k: 4, replicas: 2 });
  });
});

describe("loadConfig() refuses", () => {
  test.each([
    ["an unknown setting", "prot: 9000", "kintsugi.yaml:1: prot: unknown setting, did you mean port?"],
    [
      "one in the wrong place",
      "\ndrainMs: 3s",
      "kintsugi.yaml:2: drainMs: unknown setting, did you mean timeouts.drainMs?",
    ],
    [
      "an unknown setting of a node",
      "cluster:\n  nodes:\n    - {name: a, wieght: 2}",
      "kintsugi.yaml:3: cluster.nodes.0.wieght: unknown setting, did you mean weight?",
    ],
    [
      "an unknown setting of a bucket",
      "cluster: {buckets: {t: {replica: 2}}}",
      "kintsugi.yaml:1: cluster.buckets.t.replica: unknown setting, did you mean replicas?",
    ],
    [
      "a value out of range",
      "port: 65536",
      "kintsugi.yaml:1: port: 65536 is not allowed: give a whole number from 0 to 65535, or auto",
    ],
    [
      "a fraction",
      "port: 1.5",
      "kintsugi.yaml:1: port: 1.5 is not allowed: give a whole number from 0 to 65535, or auto",
    ],
    [
      "an empty value",
      "logLevel:",
      "kintsugi.yaml:1: logLevel: is empty: give one of debug, info, warn, error, silent",
    ],
    [
      "a unit it does not know",
      "timeouts: {drainMs: 3 days}",
      'kintsugi.yaml:1: timeouts.drainMs: "3 days" is not allowed: give a time from 1ms to 1h, such as 500, 500ms or 30s',
    ],
    [
      "a value where a section belongs",
      "http: 8000",
      "kintsugi.yaml:1: http: is not a map: give objectBytesMax, connectionsMax, bodyBytesPerSecondMin, writesPerSecondMax, trustedProxies",
    ],
    [
      "a node without a name",
      "cluster: {nodes: [{zone: a}]}",
      "kintsugi.yaml:1: cluster.nodes.0.name: is missing: give 1 to 63 lower-case letters, digits and hyphens",
    ],
    [
      "no nodes at all",
      "cluster: {nodes: 0}",
      "kintsugi.yaml:1: cluster.nodes: 0 is not allowed: give a number from 1 to 128, or a list of {name, region, zone, weight}",
    ],
    [
      "a bad bucket name",
      "cluster: {buckets: {Big_One: {}}}",
      "kintsugi.yaml:1: cluster.buckets.Big_One: Bucket names have 1 to 63 characters: lower-case letters, digits, dots and hyphens",
    ],
    [
      "a bucket no object may have",
      "cluster: {buckets: {__proto__: {k: 1}}}",
      "kintsugi.yaml:1: cluster.buckets.__proto__: is not a bucket name",
    ],
    [
      "a network that is none",
      "http: {trustedProxies: [10.0.0.0/33]}",
      'kintsugi.yaml:1: http.trustedProxies: ["10.0.0.0/33"] is not allowed: give IP addresses or networks, such as [10.0.0.0/8, ::1]',
    ],
    ["a file that is a list", "- port: 1", "kintsugi.yaml:1: the file is not a map: give lines such as `port: 8000`"],
    ["a key given twice", "port: 1\nport: 2", "kintsugi.yaml:2: Map keys must be unique"],
  ])("%s", (_, yaml, problem) => {
    expect(problemsWith({ yaml })).toEqual([problem]);
  });

  test("an unknown variable, naming the nearest", () => {
    expect(problemsWith({ env: { KINTSUGI_DATADIR: "x" } })).toEqual([
      "KINTSUGI_DATADIR: unknown variable, did you mean KINTSUGI_DATA_DIR?",
    ]);
  });

  test("a bad value of a variable or flag, blaming it and not the file", () => {
    const problems = problemsWith({
      yaml: "port: 1\nlogLevel: info",
      env: { KINTSUGI_PORT: "x" },
      set: { logLevel: "loud" },
    });
    expect(problems).toEqual([
      '--set logLevel: logLevel: "loud" is not allowed: give one of debug, info, warn, error, silent',
      'KINTSUGI_PORT: port: "x" is not allowed: give a whole number from 0 to 65535, or auto',
    ]);
  });

  test("all problems of all sources at once, as config_invalid", () => {
    const given = {
      yaml: "prot: 1\nthreads: 0\nmemory: {inFlightBytesMax: 1}",
      env: { KINTSUGI_HOTS: "x" },
      set: { port: "-1" },
    };
    expect(problemsWith(given)).toHaveLength(5);
    let thrown: unknown;
    try {
      load(given);
    } catch (cause) {
      thrown = cause;
    }
    expect(isStoreError(thrown, "config_invalid")).toBe(true);
    expect((thrown as Error).message).toMatch(/^Configuration has 5 problems:\n/);
  });

  test("a file that was asked for and is not there", () => {
    expect(problemsWith({ configFile: "gone.yaml" })).toEqual(["gone.yaml: there is no such file"]);
    expect(problemsWith({ env: { KINTSUGI_CONFIG: "gone.yaml" } })).toEqual(["gone.yaml: there is no such file"]);
  });

  test("a file that cannot be read", () => {
    const readFile = () => {
      throw new Error("EISDIR: illegal operation on a directory");
    };
    const result = readConfig({ ...sourcesOf({}), readFile });
    expect(result).toMatchObject({
      ok: false,
      problems: [{ source: "kintsugi.yaml", message: expect.stringContaining("EISDIR") }],
    });
  });

  test("names from Object.prototype anywhere, as any other unknown name", () => {
    for (const name of ["__proto__", "constructor", "toString"]) {
      expect(problemsWith({ yaml: `${name}: 1` })[0]).toContain(`${name}: unknown setting`);
      expect(problemsWith({ set: { [`memory.${name}.x`]: "1" } })[0]).toContain(`memory.${name}: unknown setting`);
    }
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  test("a small file that aliases make large", () => {
    const lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"];
    for (let n = 1; n < 8; n += 1)
      lines.push(
        `a${n}: &a${n} [${Array(8)
          .fill(`*a${n - 1}`)
          .join(", ")}]`,
      );
    expect(problemsWith({ yaml: lines.join("\n") })).toHaveLength(1);
  });
});

describe("loadConfig() checks what must fit together", () => {
  test("RS(2+1) with three replicas fits three nodes", () => {
    expect(load({ yaml: "cluster: {nodes: 3, bucketDefaults: {k: 2, m: 1}}" }).cluster.nodes).toHaveLength(3);
  });

  test("refuses more shards or replicas than nodes, blaming who asked for it", () => {
    expect(problemsWith({ env: { KINTSUGI_CLUSTER_NODES: "2" } })).toEqual([
      "KINTSUGI_CLUSTER_NODES: cluster.bucketDefaults.k: k 4 + m 2 need 6 nodes and there are 2: lower k or m (k 2, m 1 fits 3 nodes) or add nodes",
      "KINTSUGI_CLUSTER_NODES: cluster.bucketDefaults.replicas: 3 replicas need as many nodes and there are 2: lower replicas or add nodes",
    ]);
    expect(problemsWith({ yaml: "cluster:\n  buckets:\n    wide: {k: 8}" })).toEqual([
      "kintsugi.yaml:3: cluster.buckets.wide.k: k 8 + m 2 need 10 nodes and there are 6: lower k or m (k 2, m 1 fits 3 nodes) or add nodes",
    ]);
  });

  test("tells a contradiction that buckets inherit only once", () => {
    const yaml = "cluster: {nodes: 5, buckets: {a: {replicas: 1}, b: {consistency: one}}}";
    expect(problemsWith({ yaml })).toHaveLength(1);
  });

  test("refuses two nodes of one name, and inline above replication", () => {
    const yaml =
      "cluster:\n  nodes: [{name: a}, {name: a}, {name: b}]\n  bucketDefaults: {k: 2, m: 1, replicationBytesMax: 1}";
    const problems = problemsWith({ yaml });
    expect(problems).toHaveLength(2);
    expect(problems.join()).toContain("two nodes are named a");
    expect(problems.join()).toContain("inlineBytesMax");
  });

  test("takes a fault point for tests, with or without a count, and no other", () => {
    expect(load({ env: { KINTSUGI_TEST_KILL_AT: "put.cell-sent:3" } }).testKillAt).toBe("put.cell-sent:3");
    for (const name of ["put.nowhere", "put.parsed:0", "put.parsed:1:2", "toString"]) {
      expect(problemsWith({ env: { KINTSUGI_TEST_KILL_AT: name } })).toHaveLength(1);
    }
  });
});

test("loadConfig() takes a deliberate bug for tests, and no other", () => {
  expect(load({ env: { KINTSUGI_TEST_BUG: "ack-early" } }).testBug).toBe("ack-early");
  expect(problemsWith({ env: { KINTSUGI_TEST_BUG: "toString" } })).toEqual([
    'KINTSUGI_TEST_BUG: "toString" is no bug of ours',
  ]);
});

describe("sizes and durations", () => {
  test.each([
    ["64KiB", 65_536],
    ["1.5 KiB", 1_536],
    ["2kb", 2_000],
    [77, 77],
    ["0B", 0],
  ])("size %s", (text, bytes) => {
    expect(load({ yaml: `http: {bodyBytesPerSecondMin: ${text}}` }).http.bodyBytesPerSecondMin).toBe(bytes);
  });

  test.each([
    ["500ms", 500],
    ["1.5s", 1_500],
    ["5m", 300_000],
    ["1h", 3_600_000],
    [250, 250],
  ])("duration %s", (text, ms) => {
    expect(load({ yaml: `timeouts: {drainMs: ${text}}` }).timeouts.drainMs).toBe(ms);
  });

  test.each(["1K", "1 parsec", "-1", "1e3", "0.3B", "KiB", "", "9007199254740993B"])("refuses the size %j", (text) => {
    expect(problemsWith({ yaml: `http: {objectBytesMax: "${text}"}` })).toHaveLength(1);
  });
});

test("readConfig() answers any text with a configuration or with problems, never with an exception", () => {
  const scalars = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.constantFrom("null", "[]", "{}", "&a", "*a", "!!x y", "'", "? a"),
  );
  const names = fc.oneof(
    fc.constantFrom(...listSettings().map((entry) => entry.path.at(-1) as string), "cluster", "http", "__proto__"),
    fc.string({ maxLength: 8 }),
  );
  const lines = fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), names, scalars), { maxLength: 8 });
  fc.assert(
    fc.property(lines, fc.string(), (rows, tail) => {
      const yaml = rows.map(([depth, name, value]) => `${"  ".repeat(depth)}${name}: ${value}`).join("\n") + tail;
      const result = readConfig(sourcesOf({ yaml }));
      expect(result.ok || result.problems.length > 0).toBe(true);
    }),
    { numRuns: 300 },
  );
});

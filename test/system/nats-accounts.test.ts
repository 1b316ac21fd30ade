/** Clusters that share NATS servers: an account holds one of them, and two accounts hold two. */
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { claimAccount } from "../../src/healer/nats-events-stream.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";
import { EVENT_SUBJECTS, clusterOfEventsStream, natsNamesOf } from "../../src/nats/nats-names.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { cleanEnvironment, commandOf } from "../support/serve.ts";

const USERS = ["north", "south", "foreign", "process"] as const;
type User = (typeof USERS)[number];
const PASSWORD = "of no account";
const MAIN = join(import.meta.dirname, "../../src/main.ts");
const LIMITS = { maxAgeMs: 3_600_000, bytesMax: 10_000_000 };

/** An account for each user, as docs/deployment.md has it. */
const ACCOUNTS = [
  "accounts {",
  ...USERS.map((user) => `  ${user} { jetstream: enabled, users: [{ user: ${user}, password: "${PASSWORD}" }] }`),
  "}",
].join("\n");

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats({ config: ACCOUNTS })));
afterAll(() => nats[Symbol.asyncDispose]());

async function openLink(user: User, clusterName: string) {
  const link = await openNatsLink(
    {
      ...{ servers: nats.urls, user, password: PASSWORD, token: null, credsFile: null },
      ...{ tlsCaFile: null, tlsCertFile: null, tlsKeyFile: null },
      ...{ clusterName, processName: "test", streamReplicas: 1, connectMs: 10_000 },
    },
    { clock: systemClock, random: systemRandom, logger: silentLogger },
  );
  return { link, [Symbol.asyncDispose]: () => link.close() };
}

async function streamsOf(user: User): Promise<string[]> {
  await using opened = await openLink(user, "looker-on");
  const manager = await jetstreamManager(opened.link.connection);
  const names: string[] = [];
  for await (const name of manager.streams.names()) names.push(name);
  return names.sort();
}

describe("claimAccount()", () => {
  test("gives an account to the first cluster, also to many processes of it at once, and refuses every other", async () => {
    await using first = await openLink("north", "eu-1");
    await using second = await openLink("north", "eu-2");
    await Promise.all([1, 2, 3, 4].map(() => claimAccount(first.link, LIMITS)));
    await claimAccount(first.link, { maxAgeMs: 7_200_000, bytesMax: 20_000_000 });
    await expect(claimAccount(second.link, LIMITS)).rejects.toMatchObject({
      code: "cluster_mismatch",
      retriable: false,
      message:
        "Cannot join cluster eu-2: this NATS account holds cluster eu-1 already (stream KINTSUGI_EU_1_EVENTS), and an account holds one. " +
        "Give this cluster an account of its own, see docs/deployment.md, or set cluster.name to eu-1 to join that one",
    });
    expect(await streamsOf("north")).toEqual(["KINTSUGI_EU_1_EVENTS"]);
    const manager = await jetstreamManager(first.link.connection);
    const { config } = await manager.streams.info("KINTSUGI_EU_1_EVENTS");
    expect(config.max_bytes, "limits are the leading healer's to change").toBe(LIMITS.bytesMax);
  });

  test("lets clusters of one name and of two share servers, each in an account of its own", async () => {
    await using first = await openLink("north", "eu-1");
    await using second = await openLink("south", "eu-1");
    await Promise.all([claimAccount(first.link, LIMITS), claimAccount(second.link, LIMITS)]);
  });

  test("names a stream that is no cluster's but has the subjects", async () => {
    await using opened = await openLink("foreign", "eu-1");
    const manager = await jetstreamManager(opened.link.connection);
    await manager.streams.add({ name: "EVERYTHING", subjects: ["kintsugi.>"] });
    await expect(claimAccount(opened.link, LIMITS)).rejects.toMatchObject({
      code: "cluster_mismatch",
      message: `Cannot join cluster eu-1: stream EVERYTHING has subjects of change events (${EVENT_SUBJECTS}) in this NATS account. Give this cluster an account of its own, see docs/deployment.md`,
    });
  });
});

test.each(["gateway", "node", "healer"])(
  "a %s of a second cluster on an account ends at once, says why, and leaves nothing there",
  async (role) => {
    await using holder = await openLink("process", "eu-1");
    await claimAccount(holder.link, LIMITS);
    const dataDir = join(tmpdir(), `kintsugi-accounts-${process.pid}-${role}`);
    const settings = ["nats.user=process", "cluster.streamReplicas=1", "cluster.name=eu-2"];
    const [command, ...prefix] = commandOf("node");
    const args = [...prefix, MAIN, role, "--port", "0", "--data-dir", dataDir];
    const env = cleanEnvironment({
      KINTSUGI_NATS_SERVERS: nats.urls.join(","),
      KINTSUGI_NATS_MONITOR_URLS: nats.monitorUrls.join(","),
      KINTSUGI_NATS_PASSWORD: PASSWORD,
      KINTSUGI_CLUSTER_SECRET: "of the second cluster",
    });
    const flags = settings.flatMap((setting) => ["--set", setting]);
    const ended: unknown = await promisify(execFile)(command, [...args, ...flags], { env, timeout: 30_000 }).catch(
      (failure: unknown) => failure,
    );
    await rm(dataDir, { recursive: true, force: true });
    expect(ended).toMatchObject({ code: 2, stdout: "" });
    expect((ended as { stderr: string }).stderr).toMatch(
      /^kintsugi: cluster_mismatch: Cannot join cluster eu-2: this NATS account holds cluster eu-1 .*\n$/,
    );
    expect(await streamsOf("process")).toEqual(["KINTSUGI_EU_1_EVENTS"]);
  },
);

test("clusterOfEventsStream() reads back the name in that of the stream, and knows other streams from it", () => {
  for (const name of ["main", "eu-west-1", "events", "a-events", "0"])
    expect(clusterOfEventsStream(natsNamesOf(name).eventsStream), name).toBe(name);
  for (const name of ["EVENTS", "KINTSUGI_MAIN_WAL", "KINTSUGI_main_EVENTS", "KV_kintsugi_main_lease"])
    expect(clusterOfEventsStream(name), name).toBeNull();
});

/** Wrong logins: servers of a cluster name each other to whoever connects, which must not keep us trying for ever. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectKintsugi } from "../../src/client/client.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { openNatsLink } from "../../src/nats/nats-link.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";

const PASSWORD = "the right one";
const REFUSED = /^Cannot reach NATS at .*: it refuses this login; check user and password/;

let nats: NatsCluster;
const config = `authorization { user: kintsugi, password: "${PASSWORD}" }\n`;
beforeAll(async () => void (nats = await startNats({ servers: 3, config })));
afterAll(() => nats[Symbol.asyncDispose]());

function link(servers: readonly string[], password: string | null) {
  return openNatsLink(
    {
      ...{ servers, user: password === null ? null : "kintsugi", password, token: null, credsFile: null },
      ...{ tlsCaFile: null, tlsCertFile: null, tlsKeyFile: null },
      ...{ clusterName: "main", processName: "test", streamReplicas: 3, connectMs: 10_000 },
    },
    { clock: systemClock, random: systemRandom, logger: silentLogger },
  );
}

describe("a login that three servers refuse", () => {
  test.each(["the wrong one", null])("ends the start of a process, password %j", async (password) => {
    const refusal = { code: "nats_unavailable", message: expect.stringMatching(REFUSED) as string };
    await expect(link(nats.urls.slice(0, 1), password)).rejects.toMatchObject(refusal);
    await expect(link(nats.urls, password)).rejects.toMatchObject(refusal);
  });

  test("ends a client's call", async () => {
    const login = { user: "kintsugi", password: "the wrong one" };
    const refusal = { code: "nats_unavailable", message: expect.stringMatching(REFUSED) as string };
    await expect(connectKintsugi({ servers: nats.urls[0] as string, ...login })).rejects.toMatchObject(refusal);
  });
});

test("openNatsLink() finds the server that lives, by the others or named by them", async () => {
  await (nats.servers[0] as NatsCluster["servers"][number]).kill9();
  const opened = await link(nats.urls.slice(0, 2), PASSWORD);
  expect(nats.urls.slice(1).map((url) => url.slice("nats://".length))).toContain(opened.connection.getServer());
  await opened.close();
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveDesk } from "../../src/desk/nats-desk-server.ts";
import { openNatsHealingDesk } from "../../src/desk/nats-healing-desk.ts";
import { openNatsHealingStore } from "../../src/desk/nats-healing-store.ts";
import { askTracks, tellTracks } from "../../src/desk/nats-track-reports.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { openTestLeading } from "../support/leading.ts";
import type { NatsCluster } from "../support/nats.ts";
import { startNats } from "../support/nats.ts";
import { sampleReport } from "../support/test-desk.ts";
import { openTestLink } from "../support/test-link.ts";
import { healingDeskContract } from "./healing-desk.contract.ts";
import { healingStoreContract } from "./healing-store.contract.ts";

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats()));
afterAll(() => nats[Symbol.asyncDispose]());

let count = 0;

/** Two processes of one cluster. */
async function openLinks() {
  const clusterName = `healing-${(count += 1)}`;
  const [link, other] = await Promise.all([openTestLink(nats, { clusterName }), openTestLink(nats, { clusterName })]);
  return { link, other, close: () => Promise.all([link.close(), other.close()]).then(() => {}) };
}

/** A leader in one process, and who asks it in another. */
async function openDesk(isHeld: () => boolean = () => true) {
  const { link, other, close } = await openLinks();
  const store = await openNatsHealingStore(link);
  const leading = await openTestLeading({ clock: systemClock, store, term: { token: 1, isHeld } });
  const server = serveDesk(link, { desk: leading.leading.desk, isHeld });
  // Else the first question may be there before the server knows who answers.
  await link.connection.flush();
  const desk = openNatsHealingDesk(other, { answerMs: 1_500 });
  return {
    ...{ desk, leading, server },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await leading[Symbol.asyncDispose]();
      await close();
    },
  };
}

describe("a healing store in NATS", () => {
  healingStoreContract(async () => {
    const { link, other, close } = await openLinks();
    const store = await openNatsHealingStore(link);
    return { store, reopen: () => openNatsHealingStore(other), [Symbol.asyncDispose]: close };
  });

  it("takes nothing from a leader whose term is over", async () => {
    const { link, other, close } = await openLinks();
    const [stale, current] = await Promise.all([openNatsHealingStore(link), openNatsHealingStore(other)]);
    await stale.changeLedger(1, (ledger) => ledger);
    await current.changeLedger(2, (ledger) => ledger);
    const refused = stale.changeLedger(1, (ledger) => ({ ...ledger, lacking: { n1: 5 } }));
    await expect(refused).rejects.toMatchObject({ code: "healing_unavailable" });
    expect((await current.changeLedger(2, (ledger) => ledger)).lacking).toBeNull();
    await close();
  });
});

describe("the desk of a cluster", () => {
  healingDeskContract(openDesk);

  it("says at once that nobody leads", async () => {
    const { other, close } = await openLinks();
    const desk = openNatsHealingDesk(other, { answerMs: 60_000 });
    await expect(desk.status()).rejects.toMatchObject({ code: "healing_unavailable", retriable: true });
    await close();
  });

  it("gets no answer from a leader that has lost its lease, and nothing is done", async () => {
    let held = true;
    await using opened = await openDesk(() => held);
    held = false;
    const asked = opened.desk.drain("n1" as NodeName, true);
    await expect(asked).rejects.toMatchObject({ code: "healing_unavailable", retriable: true });
    expect(opened.leading.told).toEqual([]);
  });
});

describe("askTracks()", () => {
  it("hears every process that tells, and waits for no other", async () => {
    const { link, other, close } = await openLinks();
    const reports = [sampleReport({ process: "test" }), sampleReport({ process: "test", track: "compact" })];
    const telling = tellTracks(other, () => reports);
    await other.connection.flush();
    expect(await askTracks(link, 1, 60_000)).toEqual(reports);
    telling[Symbol.dispose]();
    expect(await askTracks(link, 1, 100)).toEqual([]);
    await close();
  });
});

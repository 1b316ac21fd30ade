import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NatsPinBoard } from "../../../src/membership/nats-pin-board.ts";
import { openPinBoard } from "../../../src/membership/nats-pin-board.ts";
import type { NatsLink } from "../../../src/nats/nats-link.ts";
import type { NatsCluster } from "../../support/nats.ts";
import { startNats } from "../../support/nats.ts";
import { openTestLink } from "../../support/test-link.ts";

const ANNOUNCE_MS = 100;
const SOON = { timeout: 20_000, interval: 10 };

let nats: NatsCluster;
beforeAll(async () => void (nats = await startNats()));
afterAll(() => nats[Symbol.asyncDispose]());

let clusters = 0;

function newCluster() {
  const clusterName = `pins-${(clusters += 1)}`;
  const open = new AsyncDisposableStack();
  return {
    async board(
      names: Iterable<string>,
      announceMs = ANNOUNCE_MS,
    ): Promise<NatsPinBoard & { readonly link: NatsLink }> {
      const link = open.adopt(await openTestLink(nats, { clusterName }), (opened) => opened.close());
      const board = open.use(openPinBoard(link, { localNames: () => names, announceMs }));
      return Object.assign(board, { link });
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Resolves when the board has listened for long enough to call something free. */
async function untilSure(board: NatsPinBoard): Promise<void> {
  await expect.poll(() => board.isPinned("nothing.body"), SOON).toBe(false);
}

describe("openPinBoard()", () => {
  test("isPinned() is true of everything until the board has listened for a while", async () => {
    await using cluster = newCluster();
    const board = await cluster.board([]);
    expect(board.isPinned("a.body")).toBe(true);
    await untilSure(board);
    // Much slower than the test: it has heard itself, but not for a whole window.
    const slow = await cluster.board([], 60_000);
    await slow.link.connection.flush();
    expect(slow.isPinned("a.body")).toBe(true);
  });

  test("isPinned() knows what others read, and not what this process reads itself", async () => {
    await using cluster = newCluster();
    const names = new Set(["a.body", "b.cold"]);
    const reader = await cluster.board(names);
    const remover = await cluster.board(["c.body"]);
    await untilSure(remover);
    await untilSure(reader);
    const pinnedFor = (board: NatsPinBoard) => ["a.body", "b.cold", "c.body"].map((name) => board.isPinned(name));
    await expect.poll(() => pinnedFor(remover), SOON).toEqual([true, true, false]);
    await expect.poll(() => pinnedFor(reader), SOON).toEqual([false, false, true]);
    names.delete("a.body");
    await expect.poll(() => remover.isPinned("a.body"), SOON).toBe(false);
    expect(remover.isPinned("b.cold")).toBe(true);
    names.clear();
    await expect.poll(() => remover.isPinned("b.cold"), SOON).toBe(false);
  });

  test("isPinned() is true as long as the reader goes on", async () => {
    await using cluster = newCluster();
    await cluster.board(["a.body"]);
    const remover = await cluster.board([]);
    await untilSure(remover);
    const seen: boolean[] = [];
    for (let n = 0; n < 20; n += 1) {
      seen.push(remover.isPinned("a.body"));
      await remover.link.clock.sleep(ANNOUNCE_MS / 2);
    }
    expect(seen).toEqual(seen.map(() => true));
  });

  test("isPinned() ends at once for a reader that ended well, and a while later for one that died", async () => {
    await using cluster = newCluster();
    // Long enough for what must happen within one window.
    const remover = await cluster.board([], 3 * ANNOUNCE_MS);
    const dying = await cluster.board(["a.body"], ANNOUNCE_MS);
    const ending = await cluster.board(["b.body"], ANNOUNCE_MS);
    await untilSure(remover);
    await dying.link.connection.close();
    await ending[Symbol.asyncDispose]();
    await ending.link.connection.flush();
    await remover.link.connection.flush();
    expect([remover.isPinned("a.body"), remover.isPinned("b.body")]).toEqual([true, false]);
    await expect.poll(() => remover.isPinned("a.body"), SOON).toBe(false);
  });

  test("isPinned() is true of everything while the board hears nothing, and for a while after", async () => {
    await using cluster = newCluster();
    const board = await cluster.board([]);
    await untilSure(board);
    nats.servers[0]!.pause();
    try {
      await expect.poll(() => board.isPinned("nothing.body"), SOON).toBe(true);
    } finally {
      nats.servers[0]!.resume();
    }
    await untilSure(board);
  });

  test("isPinned() is true of everything after words that it does not understand", async () => {
    await using cluster = newCluster();
    const board = await cluster.board([]);
    await untilSure(board);
    const other = await cluster.board([]);
    other.link.connection.publish(other.link.names.pinsSubject("newer"), Uint8Array.of(2));
    await expect.poll(() => board.isPinned("nothing.body"), SOON).toBe(true);
    await untilSure(board);
  });

  test("announces more pins than fit one message", async () => {
    await using cluster = newCluster();
    const names = Array.from({ length: 5_000 }, (_, n) => `${n}.body`);
    await cluster.board(names);
    const remover = await cluster.board([]);
    await untilSure(remover);
    expect(names.filter((name) => !remover.isPinned(name))).toEqual([]);
  });
});

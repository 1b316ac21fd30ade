import { createSeeded } from "../../support/load/seeded.ts";
import { TortureClient, type World } from "./client.ts";

/** Lets all clients loose until `action` is done, or one of them fails for a reason of its own. */
export async function underLoad(seed: number, world: World, action: () => Promise<void>): Promise<void> {
  let stopped = false;
  using stack = new DisposableStack();
  const clients = Array.from({ length: world.clients }, (_, index) =>
    stack.use(new TortureClient(index, createSeeded(seed * 100 + index), world)),
  );
  const running = Promise.all(clients.map((client) => client.run(() => stopped)));
  running.catch(() => {});
  try {
    await Promise.race([action(), running]);
  } finally {
    stopped = true;
    await running;
  }
}

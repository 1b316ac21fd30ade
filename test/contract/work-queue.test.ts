import { systemClock } from "../../src/lib/clock.ts";
import { createMemoryWorkQueue } from "../../src/work/memory-work-queue.ts";
import { CONTRACT_LEASE_MS, CONTRACT_WAITING_MAX, describeWorkQueue } from "./work-queue.contract.ts";

describeWorkQueue("memory", async () => {
  const options = { clock: systemClock, leaseMs: CONTRACT_LEASE_MS, waitingMax: CONTRACT_WAITING_MAX };
  const queue = createMemoryWorkQueue(options);
  return { queue, other: queue, [Symbol.asyncDispose]: () => queue.close() };
});

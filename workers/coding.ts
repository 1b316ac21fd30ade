import { workerData } from "node:worker_threads";
import type { CodingThreadSettings } from "../src/coding/coding-messages.ts";
import { createCodingThread } from "../src/coding/coding-thread.ts";

/** Entry of a coding thread: piscina calls this export for every task. */
export const runTask = createCodingThread(workerData as CodingThreadSettings);

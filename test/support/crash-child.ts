/**
 * A real process with a real store that performs one write and is killed at a step of it.
 * argv: data directory, name of the write (`crash-writes.ts`), fault point `name` or `name:n`.
 * Prints `acknowledged` when the write was answered before the kill, `survived` when the step was never reached.
 */
import { writeSync } from "node:fs";
import { killingFaultPoints } from "../../src/role/kill-point.ts";
import { CRASH_WRITES } from "./crash-writes.ts";
import { openTestStore } from "./store.ts";

const [dir, name, killAt] = process.argv.slice(2) as [string, keyof typeof CRASH_WRITES, string];
const store = await openTestStore({ dir, faults: killingFaultPoints(killAt) });
await CRASH_WRITES[name].write(store);
writeSync(1, "acknowledged\n");
// What follows the answer may hold the step too.
await store.store.close();
writeSync(1, "survived\n");
process.exit(0);

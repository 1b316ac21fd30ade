/** A process that locks a folder, says so and stays. Usage: lock-child.ts DIR */
import { lockDataDir } from "../../src/lib/dir-lock.ts";

const lock = await lockDataDir(process.argv[2] as string);
process.stdout.write(lock === null ? "refused\n" : "locked\n");
setInterval(() => {}, 60_000);

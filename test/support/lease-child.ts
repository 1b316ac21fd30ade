/**
 * Takes the lease "healer" and holds it until it is killed: `node lease-child.ts <cluster name> <ttl ms> <url>…`.
 * Prints `held <pid> <token>`, and when it goes on after a SIGSTOP `resumed <whether it is held>`, asked before anything
 * else could tell it that time has passed.
 */
import { openNatsLease } from "../../src/lease/nats-lease.ts";
import { openTestLink } from "./test-link.ts";

const [clusterName, ttlMs, ...urls] = process.argv.slice(2) as [string, string, ...string[]];
const link = await openTestLink({ urls, replicas: 1 }, { clusterName });
const lease = await openNatsLease(link, { ttlMs: Number(ttlMs) });
const grant = await lease.tryAcquire("healer", "child");
if (grant === null) throw new Error("the lease was not free");

process.on("SIGCONT", () => process.stdout.write(`resumed ${grant.isHeld()}\n`));
process.stdout.write(`held ${process.pid} ${grant.token}\n`);

#!/usr/bin/env node
import type { Maintenance } from "./cli/maintenance.ts";
import { runCli } from "./cli/program.ts";
import { systemClock } from "./lib/clock.ts";

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // The first asks for a clean end, the second does not wait for it.
  process.on(signal, () => (stop.signal.aborted ? process.exit(130) : stop.abort()));
}
// Without a listener a reader that goes away, as `head` does, would end the process with a stack trace.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {});

const io = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  stderrIsTerminal: process.stderr.isTTY === true,
  clock: systemClock,
  signal: stop.signal,
};
const maintenance: Maintenance = {
  async rebuildMetadata(config, call) {
    return await (await import("./role/maintain.ts")).rebuildMetadata(config, call);
  },
  async checkNodes(dataDir, onProgress) {
    return await (await import("./role/maintain.ts")).checkNodes(dataDir, onProgress);
  },
};
// Storage engine, threads and web server load for the roles that need them: the other commands start without.
const exitCode = await runCli(
  process.argv.slice(2),
  io,
  async (role, config) => {
    switch (role) {
      case "all":
        return await (await import("./role/all.ts")).runAll(config);
      case "gateway":
        return await (await import("./role/gateway.ts")).runGateway(config);
      case "node":
        return await (await import("./role/node.ts")).runNode(config);
      case "healer":
        return await (await import("./role/healer.ts")).runHealer(config);
    }
  },
  maintenance,
);
// Ends also what would keep the process alive, such as an open stdin, but not before all output is out.
process.stdout.write("", () => process.exit(exitCode));

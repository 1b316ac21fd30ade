/**
 * Many small requests at once, by wrk: it takes a tenth of the CPU time of a client in JavaScript, which is what counts
 * where a dozen processes and the client share two cores.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { unpackPackage } from "../cluster/debian-archive.ts";
import type { LoadOptions, LoadRequest, LoadResult } from "./load.ts";

const LIBRARY_DIR = "usr/lib/x86_64-linux-gnu";
const TIMEOUT = "30s";

/** Sends the requests of all connections, one after the other over whichever connection is free, and again. */
export async function runWrk(url: string, options: LoadOptions): Promise<LoadResult> {
  const { connections, seconds, requestsOf } = options;
  const [program, library] = ["wrk", "libluajit-5.1-2"].map((name) => unpackPackage({ name, suite: null }));
  const dir = mkdtempSync(join(tmpdir(), "kintsugi-wrk-"));
  try {
    const requests = Array.from({ length: connections }, (_, connection) => requestsOf(connection)).flat();
    writeRequests(join(dir, "requests"), new URL(url).host, requests);
    writeFileSync(join(dir, "script.lua"), scriptOf(join(dir, "requests")));
    const flags = ["-t", "1", "-c", `${connections}`, "-d", `${seconds}s`, "--timeout", TIMEOUT];
    const { stdout } = await promisify(execFile)(
      join(program as string, "usr/bin/wrk"),
      [...flags, "-s", join(dir, "script.lua"), url],
      { env: { LD_LIBRARY_PATH: join(library as string, LIBRARY_DIR) } },
    );
    return resultOf(stdout);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** As they go over the wire, each behind its length in decimal digits. */
function writeRequests(file: string, host: string, requests: readonly LoadRequest[]): void {
  const chunks = requests.flatMap(({ method, path, headers = {}, body = Buffer.alloc(0) }) => {
    const fields = Object.entries({ Host: host, ...headers, "Content-Length": body.length });
    const head = `${method} ${path} HTTP/1.1\r\n${fields.map((field) => `${field.join(": ")}\r\n`).join("")}\r\n`;
    return [Buffer.from(`${Buffer.byteLength(head) + body.length}\n${head}`), body];
  });
  writeFileSync(file, Buffer.concat(chunks));
}

function scriptOf(requestsFile: string): string {
  return `
local requests, at = {}, 0
function init()
  local file = io.open(${JSON.stringify(requestsFile)}, "rb")
  for length in function() return file:read("*n") end do
    file:read(1)
    requests[#requests + 1] = file:read(length)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("RESULT %d %d %d %f %f\\n", summary.requests, errors.status, failed,
    latency:percentile(50), latency:percentile(99)))
  io.write(string.format("SECONDS %f\\n", summary.duration / 1e6))
end
`;
}

function resultOf(output: string): LoadResult {
  const [answered = 0, refused = 0, failed = 0, p50 = 0, p99 = 0] = numbersBehind("RESULT", output);
  const [seconds = 1] = numbersBehind("SECONDS", output);
  return { perSecond: (answered - refused) / seconds, p50Ms: p50 / 1_000, p99Ms: p99 / 1_000, failed };
}

function numbersBehind(word: string, output: string): number[] {
  const line = output.split("\n").find((each) => each.startsWith(`${word} `));
  if (line === undefined) throw new Error(`wrk printed no ${word}: ${output}`);
  return line.split(" ").slice(1).map(Number);
}

/** The command line over NATS, against a real server and a real store. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseNatsUrl } from "../../src/cli/nats-store.ts";
import { runCli } from "../../src/cli/program.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { EVENT_SUBJECTS, eventSubject } from "../../src/nats/nats-names.ts";
import { startTestDoor, type TestDoor } from "../support/nats-door.ts";
import { startNats, type NatsCluster } from "../support/nats.ts";
import { cleanEnvironment, commandOf } from "../support/serve.ts";
import { openTestStore, type TestStore } from "../support/store.ts";
import { NO_MAINTENANCE, run, temporaryDirectory, type RunOptions } from "../unit/cli/run.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

let nats: NatsCluster;
let store: TestStore;
let door: TestDoor;
let url: string;
beforeAll(async () => {
  [nats, store] = await Promise.all([startNats(), openTestStore()]);
  door = await startTestDoor(nats.urls, store.store.api);
  url = nats.urls[0] as string;
});
afterAll(async () => {
  await door?.[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

const overNats = ([command, ...rest]: readonly string[], options: RunOptions = {}) =>
  run([command as string, "--nats", url, ...rest], options);

/** Presses Ctrl-C after the first line. */
async function watchOneLine(operands: readonly string[]): Promise<{ exitCode: number; text: string; stderr: string }> {
  const stop = new AbortController();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  stdout.once("readable", () => stop.abort());
  const io = {
    stdin: Readable.from([]),
    stdout,
    stderr,
    stderrIsTerminal: false,
    clock: systemClock,
    signal: stop.signal,
  };
  const exitCode = await runCli(
    ["watch", "--nats", url, ...operands],
    io,
    () => Promise.reject(new Error("no store")),
    NO_MAINTENANCE,
  );
  return { exitCode, text: String(stdout.read()), stderr: String(stderr.read() ?? "") };
}

describe("over --nats", () => {
  test.each([0, 1, 40_000, 3_000_001])("put and get give %i bytes back, by file and by pipe", async (size) => {
    await using directory = await temporaryDirectory();
    const bytes = randomBytes(size);
    await writeFile(directory.file("source.bin"), bytes);
    const key = `t/ü ${size}`;
    const put = await overNats(["put", directory.file("source.bin"), key, "--json", "--meta", "device=ü 7"]);
    expect([put.exitCode, put.stderr]).toEqual([0, ""]);
    expect(JSON.parse(put.text)).toMatchObject({ key, sizeBytes: size, dirty: false });
    const got = await overNats(["get", key, directory.file("copy.bin")]);
    expect([got.exitCode, got.stderr]).toEqual([0, ""]);
    expect(got.text).toContain("SHA-256 verified");
    expect((await readFile(directory.file("copy.bin"))).equals(bytes)).toBe(true);
    const piped = await overNats(["put", "-", `p/${size}`], {
      stdin: (async function* () {
        yield bytes;
      })(),
    });
    expect(piped.exitCode).toBe(0);
    expect((await overNats(["get", `p/${size}`])).stdout.equals(bytes)).toBe(true);
    const stat = JSON.parse((await overNats(["stat", key, "--json"])).text) as object;
    expect(stat).toMatchObject({ key, sizeBytes: size, userMetadata: { device: "ü 7" } });
  });

  test("ls, patch, get --fields, get --range and rm do what they do over HTTP", async () => {
    const bucket = ["--bucket", "cli"];
    await overNats(["put", "-", "a/doc", ...bucket], { stdin: '{"a":1,"b":{"c":1.0}}' });
    await overNats(["put", "-", "b", ...bucket], { stdin: "0123456789" });
    expect((await overNats(["ls", ...bucket])).text).toBe("a/doc\nb\n");
    expect((await overNats(["ls", "--delimiter", "/", ...bucket])).text).toBe("a/\nb\n");
    expect((await overNats(["ls", "--json", "a/", ...bucket])).text).toContain('"key":"a/doc"');
    expect((await overNats(["patch", "a/doc", '{"a":2}', ...bucket])).text).toContain("patched");
    expect(JSON.parse((await overNats(["get", "a/doc", "--fields", "a", ...bucket])).text)).toEqual({ a: 2 });
    expect((await overNats(["get", "b", "--range", "2-4", ...bucket])).text).toBe("234");
    expect((await overNats(["get", "b", "--range", "-3", ...bucket])).text).toBe("789");
    expect((await overNats(["rm", "b", ...bucket])).text).toBe("b  deleted\n");
    expect((await overNats(["ls", ...bucket])).text).toBe("a/doc\n");
  });

  test("failures have the exit codes and lines that they have over HTTP", async () => {
    const missing = await overNats(["get", "no such key"]);
    expect([missing.exitCode, missing.stderr]).toEqual([3, expect.stringContaining("kintsugi: object_not_found: ")]);
    expect((await overNats(["rm", "no such key"])).exitCode).toBe(3);
    expect((await overNats(["rm", "-f", "no such key"])).exitCode).toBe(0);
    expect((await overNats(["stat", "no such key"])).exitCode).toBe(3);
    await overNats(["put", "-", "once"], { stdin: "1" });
    const twice = await overNats(["put", "-", "once", "--if-none-match"], { stdin: "2" });
    expect([twice.exitCode, twice.stderr]).toEqual([4, expect.stringMatching(/precondition_failed: .*\(request /)]);
    expect((await overNats(["put", "-", "x", "--strategy", "raid"], { stdin: "2" })).stderr).toContain(
      "strategy_unknown",
    );
    const nobody = await run(["get", "--nats", "127.0.0.1:1", "x"]);
    expect([nobody.exitCode, nobody.stderr]).toEqual([6, expect.stringContaining("nats_unavailable")]);
  });

  test("status says that it is not told over NATS", async () => {
    const status = await overNats(["status"]);
    expect([status.exitCode, status.stderr]).toEqual([2, expect.stringContaining("--url")]);
  });

  test("watch tells changes as lines or JSON, and ends without complaint", async () => {
    await using connection = await connect({ servers: url });
    await (await jetstreamManager(connection)).streams.add({ name: "EVENTS", subjects: [EVENT_SUBJECTS] });
    const event = { op: "put", bucket: "default", key: "w/\u001b[2J", version: "v", revision: 1, sizeBytes: 2_048 };
    const told = { ...event, etag: "e", contentType: "t", strategy: "ec", modifiedAtMs: 0 };
    await jetstream(connection).publish(eventSubject("default", "put"), JSON.stringify(told));
    for (const json of [true, false]) {
      const watch = await watchOneLine(["w/", "--from", "1", ...(json ? ["--json"] : [])]);
      expect([watch.exitCode, watch.stderr]).toEqual([0, ""]);
      if (json) expect(JSON.parse(watch.text)).toEqual({ ...told, sequence: 1 });
      else expect(watch.text).toBe("1970-01-01T00:00:00.000Z  put       2.0 KiB  w/\\x1b[2J\n");
    }
    expect((await overNats(["watch", "--from", "yesterday"])).exitCode).toBe(2);
    expect((await overNats(["watch", "--ops", "put,burn"])).exitCode).toBe(2);
    expect((await run(["watch"])).exitCode).toBe(2);
  });
});

describe("which door is taken", () => {
  test("--url and --nats together are refused", async () => {
    const both = await run(["ls", "--url", "http://127.0.0.1:1", "--nats", url]);
    expect([both.exitCode, both.stderr]).toEqual([2, expect.stringContaining("not by both")]);
  });

  test("the command line wins over the environment, and NATS alone in the environment is enough", async () => {
    const kintsugi = (operands: readonly string[], env: Record<string, string>) => {
      const [command, ...prefix] = commandOf("node");
      return new Promise<number | string>((resolve) => {
        execFile(command, [...prefix, MAIN, ...operands], { env: cleanEnvironment(env) }, (error) =>
          resolve(error === null ? 0 : (error.code ?? "killed")),
        );
      });
    };
    expect(await kintsugi(["ls"], { KINTSUGI_NATS: url })).toBe(0);
    expect(await kintsugi(["ls", "--nats", url], { KINTSUGI_URL: "http://127.0.0.1:1" })).toBe(0);
    expect(await kintsugi(["ls", "--url", "http://127.0.0.1:1"], { KINTSUGI_NATS: url })).toBe(6);
    expect(await kintsugi(["ls"], { KINTSUGI_NATS: url, KINTSUGI_URL: "http://127.0.0.1:1" })).toBe(2);
  });

  test("parseNatsUrl() takes servers, logins and encryption, and repeats no password in what it says", () => {
    expect(parseNatsUrl("10.0.0.1")).toEqual({ servers: ["10.0.0.1:4222"] });
    expect(parseNatsUrl("nats://a:1,b:2")).toEqual({ servers: ["a:1", "b:2"] });
    expect(parseNatsUrl("tls://us%40er:p%3Ass@[::1]:7")).toEqual({
      ...{ servers: ["[::1]:7"], user: "us@er", password: "p:ss", tls: true },
    });
    expect(parseNatsUrl("nats://secret-token@a")).toEqual({ servers: ["a:4222"], token: "secret-token" });
    for (const wrong of ["", "http://secret@a", "nats://", "nats://secret:pass word@"]) {
      expect(() => parseNatsUrl(wrong)).toThrow(/no address of NATS/);
      expect(() => parseNatsUrl(wrong)).not.toThrow(/secret/);
    }
  });
});

/** Proves that the linter bites: a rule that is written down and not enforced is worse than none. */
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const LONG_FUNCTION = `export function long(): void {\n${"  void 0;\n".repeat(70)}}\n`;

/** [file, source, rules that must reject it; none for sources that must pass] */
const CASES: readonly (readonly [path: string, source: string, rules: readonly string[]])[] = [
  ["src/lib/upward.ts", `import type { A } from "../domain/a.ts";\nexport type B = A;\n`, ["kintsugi(layers)"]],
  ["src/wal/sideways.ts", `import { a } from "../blob/a.ts";\nexport const b = a;\n`, ["kintsugi(layers)"]],
  ["src/object/to-gateway.ts", `export const a = import("../gateway/a.ts");\n`, ["kintsugi(layers)"]],
  ["src/object/to-config.ts", `import type { C } from "../config.ts";\nexport type D = C;\n`, ["kintsugi(layers)"]],
  ["src/object/to-worker.ts", `import { a } from "../../workers/a.ts";\nexport const b = a;\n`, ["kintsugi(layers)"]],
  ["src/object/to-test.ts", `import { a } from "../../test/a.ts";\nexport const b = a;\n`, ["kintsugi(layers)"]],
  ["src/cli/to-object.ts", `import { a } from "../object/a.ts";\nexport const b = a;\n`, ["kintsugi(layers)"]],
  ["workers/to-object.ts", `import { a } from "../src/object/a.ts";\nexport const b = a;\n`, ["kintsugi(layers)"]],
  ["src/nowhere/a.ts", `export const a = 1;\n`, ["kintsugi(layers)"]],
  [
    "src/wal/down.ts",
    `import { a } from "../domain/a.ts";\nimport { l } from "../limits.ts";\nexport const b = [a, l];\n`,
    [],
  ],
  [
    "src/role/all.ts",
    `import { a } from "../gateway/a.ts";\nimport type { C } from "../config.ts";\nexport const b = (c: C) => [a, c];\n`,
    [],
  ],
  ["workers/coding.ts", `import { a } from "../src/coding/a.ts";\nexport default () => a;\n`, []],

  ["src/wal/store.ts", `import { open } from "lmdb";\nexport const db = open;\n`, ["kintsugi(package-homes)"]],
  ["src/wal/lmdb-wal.ts", `import { open } from "lmdb";\nexport const db = open;\n`, []],
  [
    "src/object/pool.ts",
    `import { Piscina } from "piscina";\nexport const p = Piscina;\n`,
    ["kintsugi(package-homes)"],
  ],
  ["src/coding/pool.ts", `import { Piscina } from "piscina";\nexport const p = Piscina;\n`, []],
  [
    "src/object/app.ts",
    `import { serve } from "@hono/node-server";\nexport const s = serve;\n`,
    ["kintsugi(package-homes)"],
  ],
  ["src/gateway/app.ts", `import { Hono } from "hono";\nexport const s = Hono;\n`, []],
  [
    "src/metadata/bus.ts",
    `import { connect } from "@nats-io/transport-node";\nexport const c = connect;\n`,
    ["kintsugi(package-homes)"],
  ],
  ["src/metadata/nats-kv.ts", `import { connect } from "@nats-io/transport-node";\nexport const c = connect;\n`, []],

  ["src/domain/index.ts", `export const a = 1;\n`, ["kintsugi(no-barrels)"]],
  ["src/domain/all.ts", `export { a } from "./a.ts";\n`, ["kintsugi(no-barrels)"]],
  ["src/domain/every.ts", `export * from "./a.ts";\n`, ["kintsugi(no-barrels)"]],
  ["src/domain/default.ts", `export default function named(): void {}\n`, ["import(no-default-export)"]],
  ["src/domain/bare.ts", `import { a } from "./a";\nexport const b = a;\n`, ["kintsugi(explicit-extensions)"]],
  ["src/domain/script.ts", `import { a } from "./a.js";\nexport const b = a;\n`, ["kintsugi(explicit-extensions)"]],
  ["src/domain/byte-utils.ts", `export const a = 1;\n`, ["kintsugi(telling-names)"]],

  ["src/object/now.ts", `export const a = () => Date.now();\n`, ["kintsugi(no-nondeterminism)"]],
  ["src/object/date.ts", `export const a = () => new Date();\n`, ["kintsugi(no-nondeterminism)"]],
  ["src/object/dated.ts", `export const a = (ms: number) => new Date(ms);\n`, []],
  ["src/object/timer.ts", `export const a = (f: () => void) => setTimeout(f, 1);\n`, ["kintsugi(no-nondeterminism)"]],
  [
    "src/object/global.ts",
    `export const a = (f: () => void) => globalThis.setInterval(f, 1);\n`,
    ["kintsugi(no-nondeterminism)"],
  ],
  [
    "src/object/sleep.ts",
    `import { setTimeout as s } from "node:timers/promises";\nexport const a = s;\n`,
    ["kintsugi(no-nondeterminism)"],
  ],
  ["src/object/dice.ts", `export const a = () => Math.random();\n`, ["kintsugi(no-nondeterminism)"]],
  ["src/object/env.ts", `export const a = process.env["HOME"];\n`, ["kintsugi(no-nondeterminism)"]],
  ["src/lib/clock.ts", `export const a = () => Date.now();\n`, []],
  ["src/config.ts", `export const a = process.env["HOME"];\n`, []],
  ["test/free.ts", `export const a = () => [Date.now(), Math.random(), process.env["HOME"]];\n`, []],

  ["src/object/loose.ts", `export const a = (b: any) => b;\n`, ["typescript(no-explicit-any)"]],
  ["src/object/loud.ts", `console.log("hello");\nexport {};\n`, ["eslint(no-console)"]],
  ["src/cli/loud.ts", `console.log("hello");\nexport {};\n`, []],
  ["src/object/long-function.ts", LONG_FUNCTION, ["eslint(max-lines-per-function)"]],
  ["test/long-function.ts", LONG_FUNCTION, []],
  ["test/long-file.ts", "export {};\n".repeat(501), ["eslint(max-lines)"]],
];

let directory: string;
let rulesOf: Map<string, Set<string>>;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "kintsugi-lint-"));
  for (const [path, source] of CASES) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), source);
  }
  const config = `export { default } from ${JSON.stringify(join(ROOT, "oxlint.config.ts"))};\n`;
  await writeFile(join(directory, "oxlint.config.ts"), config);
  rulesOf = lint(directory);
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

describe("the linter", () => {
  for (const [path, source, rules] of CASES) {
    const sample = source.length > 90 ? "" : `: ${source.replaceAll("\n", " ").trim()}`;
    test(`${rules.length > 0 ? "rejects" : "accepts"} ${path}${sample}`, () => {
      expect([...(rulesOf.get(path) ?? [])]).toEqual(rules);
    });
  }
});

/** The rules that each file breaks. */
function lint(cwd: string): Map<string, Set<string>> {
  const oxlint = join(ROOT, "test/node_modules/oxlint/bin/oxlint");
  const result = spawnSync(process.execPath, [oxlint, "--format=json", "."], { cwd, encoding: "utf8" });
  const { diagnostics } = JSON.parse(result.stdout) as { diagnostics: { filename: string; code: string }[] };
  const found = new Map<string, Set<string>>();
  for (const { filename, code } of diagnostics) found.set(filename, (found.get(filename) ?? new Set()).add(code));
  return found;
}

/** Finds exports of the product that no other file names. Words are compared, not types: quick, and rarely wrong. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type UnusedExport = { readonly file: string; readonly name: string };

const PRODUCT = ["src/**/*.ts", "workers/**/*.ts"];
const READERS = [...PRODUCT, "test/**/*.ts", "bench/**/*.ts", "cluster/**/*.ts"];
const EXPORTED =
  /^export (?:declare )?(?:async )?(?:function\*?|const|let|class|type|interface|abstract class) ([\w$]+)/gm;

export function findUnusedExports(root: string): UnusedExport[] {
  const words = new Map(list(root, READERS).map((file) => [file, wordsOf(read(root, file))]));
  return list(root, PRODUCT).flatMap((file) =>
    [...read(root, file).matchAll(EXPORTED)]
      .map((match) => match[1] as string)
      .filter((name) => ![...words].some(([reader, used]) => reader !== file && used.has(name)))
      // A type that only appears in a signature of its own file is part of that signature.
      .filter((name) => occurrences(read(root, file), name) < 2)
      .map((name) => ({ file, name })),
  );
}

function list(root: string, patterns: readonly string[]): string[] {
  return globSync([...patterns], { cwd: root, exclude: ["**/node_modules/**"] }).sort();
}

function read(root: string, file: string): string {
  return readFileSync(join(root, file), "utf8");
}

function wordsOf(text: string): Set<string> {
  return new Set(text.match(/[\w$]+/g));
}

function occurrences(text: string, name: string): number {
  return text.match(/[\w$]+/g)?.filter((word) => word === name).length ?? 0;
}

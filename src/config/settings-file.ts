import { LineCounter, isMap, isPair, isScalar, parseDocument, type Document } from "yaml";

/** A settings file as data, with the line of every part of it. */
export type SettingsFile = {
  readonly name: string;
  readonly data: unknown;
  /** The line where `path` is set, or null where it is not. */
  lineOf(path: readonly (string | number)[]): number | null;
};

export type SettingsFileResult =
  | { readonly ok: true; readonly file: SettingsFile }
  | { readonly ok: false; readonly problems: readonly { readonly line: number; readonly message: string }[] };

/** Reads YAML 1.2. Aliases are bounded, so that a small file cannot become a large one. */
export function parseSettingsFile(name: string, yaml: string): SettingsFileResult {
  const lines = new LineCounter();
  const document = parseDocument(yaml, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({
      line: lines.linePos(error.pos[0]).line,
      message: error.message.split("\n")[0] ?? "not valid YAML",
    }));
    return { ok: false, problems };
  }
  if (document.contents !== null && !isMap(document.contents) && !isEmptyScalar(document.contents)) {
    return { ok: false, problems: [{ line: 1, message: "the file is not a map: give lines such as `port: 8000`" }] };
  }
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    return { ok: false, problems: [{ line: 1, message: cause instanceof Error ? cause.message : String(cause) }] };
  }
  const lineOf = (path: readonly (string | number)[]) => {
    const offset = offsetOf(document, path);
    return offset === null ? null : lines.linePos(offset).line;
  };
  return { ok: true, file: { name, data, lineOf } };
}

function offsetOf(document: Document, path: readonly (string | number)[]): number | null {
  const parent: unknown = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  const last = path.at(-1);
  if (isMap(parent)) {
    const pair = parent.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === last);
    return isScalar(pair?.key) ? (pair.key.range?.[0] ?? null) : null;
  }
  const node: unknown = document.getIn(path, true);
  const range = typeof node === "object" && node !== null && "range" in node ? node.range : null;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : null;
}

function isEmptyScalar(node: unknown): boolean {
  return isScalar(node) && node.value === null;
}

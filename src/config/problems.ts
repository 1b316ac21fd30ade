/** What is wrong with the settings, told so that it can be put right: where it stands, what was met, what is allowed. */
import type { z } from "zod";
import { nearestName } from "./nearest.ts";
import { listSettings, namesAt } from "./schema.ts";
import type { SettingsFile } from "./settings-file.ts";

export type ConfigProblem = {
  /** `kintsugi.yaml:12`, `KINTSUGI_PORT`, `--port`, or `defaults`. */
  readonly source: string;
  /** `cluster.bucketDefaults.k`; empty when it concerns a whole source. */
  readonly path: string;
  readonly message: string;
};

/** The source of a value that nobody gave. */
export const DEFAULTS = "defaults";

export type Path = readonly (string | number)[];
/** A value from environment or flags, and whom to blame for it. */
export type Override = { readonly path: readonly string[]; readonly value: string; readonly source: string };

/** One line per problem, those of a file in the order of its lines. */
export function formatConfigProblems(problems: readonly ConfigProblem[]): string {
  const sorted = problems.toSorted((a, b) => a.source.localeCompare(b.source, "en", { numeric: true }));
  const lines = sorted.map(({ source, path, message }) => `  ${source}: ${path === "" ? "" : `${path}: `}${message}`);
  return [`Configuration has ${problems.length === 1 ? "a problem" : `${problems.length} problems`}:`, ...lines].join(
    "\n",
  );
}

/**
 * Who gave the value at `path`, or the nearest thing around it: a missing name is blamed on the entry that lacks it.
 * Null when only defaults are there.
 */
export function sourceOf(path: Path, file: SettingsFile | null, overrides: readonly Override[]): string | null {
  for (let length = path.length; length > 0; length -= 1) {
    const source = exactSourceOf(path.slice(0, length), file, overrides);
    if (source !== null) return source;
  }
  return null;
}

/** Who gave the value at `path`, or null when nobody named just that. */
export function exactSourceOf(path: Path, file: SettingsFile | null, overrides: readonly Override[]): string | null {
  const override = overrides.findLast((entry) => isPrefix(entry.path, path));
  if (override !== undefined) return override.source;
  const line = file?.lineOf(path) ?? null;
  if (file !== null && line !== null) return `${file.name}:${line}`;
  return overrides.findLast((entry) => isPrefix(path, entry.path))?.source ?? null;
}

function isPrefix(prefix: Path, path: Path): boolean {
  return prefix.length <= path.length && prefix.every((step, index) => step === path[index]);
}

export function problemsOf(issue: z.core.$ZodIssue, blame: (path: Path) => string | null): ConfigProblem[] {
  const path = issue.path.filter((step) => typeof step !== "symbol");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      source: blame([...path, key]) ?? DEFAULTS,
      path: [...path, key].join("."),
      message: `unknown setting, ${suggestName(key, path)}`,
    }));
  }
  const expectsMap = issue.code === "invalid_type" && (issue.expected === "object" || issue.expected === "record");
  const names = expectsMap ? namesAt(path) : [];
  const message = expectsMap
    ? `is not a map: give ${names.length > 0 ? names.join(", ") : "names with settings"}`
    : issue.message;
  return [{ source: blame(path) ?? DEFAULTS, path: path.join("."), message }];
}

/** Names what was probably meant: a neighbour spelt alike, else the same name elsewhere, else all that is known here. */
function suggestName(key: string, path: Path): string {
  const names = namesAt(path);
  const nearest = nearestName(key, names);
  if (nearest !== null && nearest.edits <= Math.max(2, Math.floor(key.length / 3)))
    return `did you mean ${nearest.name}?`;
  const elsewhere = listSettings().find((entry) => entry.path.at(-1)?.toLowerCase() === key.toLowerCase());
  if (elsewhere !== undefined) return `did you mean ${elsewhere.path.join(".")}?`;
  return `nearest is ${nearest?.name}; known here: ${names.join(", ")}`;
}

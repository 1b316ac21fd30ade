/**
 * The kinds of value a setting can have. Each takes what YAML, an environment variable or a flag may hold, so numbers
 * and lists also arrive as text, and refuses with the sentence that says what is allowed.
 */
import { parse } from "yaml";
import { z } from "zod";
import { formatBytes } from "../lib/bytes.ts";

const SIZE_UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
};
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** What a reader needs to know of one setting; the reference in `docs/configuration.md` is made of these. */
export type SettingMeta = { readonly description: string; readonly allowed: string; readonly shownDefault: string };
export const settingMetas = new WeakMap<z.core.$ZodType, SettingMeta>();

export type Bounds = { readonly min: number; readonly max: number };

type Kind<T> = { readonly schema: z.ZodType<T>; readonly allowed: string; show(value: T): string };

export function wholeNumber(bounds: Bounds): Kind<number> {
  const allowed = `a whole number from ${bounds.min} to ${bounds.max}`;
  return { allowed, show: String, schema: valueOf((raw) => within(bounds, countOf(raw)), allowed) };
}

export function oneOf(options: readonly number[]): Kind<number> {
  const allowed = `one of ${options.join(", ")}`;
  const read = (raw: unknown) => options.find((option) => option === countOf(raw)) ?? null;
  return { allowed, show: String, schema: valueOf(read, allowed) };
}

export function positiveNumber(max: number): Kind<number> {
  const allowed = `a number above 0 and up to ${max}`;
  const read = (raw: unknown) => {
    const value = typeof raw === "string" && /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
    return typeof value === "number" && value > 0 && value <= max ? value : null;
  };
  return { allowed, show: String, schema: valueOf(read, allowed) };
}

/** A share or another plain number, both bounds included. */
export function numberBetween(min: number, max: number): Kind<number> {
  const allowed = `a number from ${min} to ${max}`;
  const read = (raw: unknown) => {
    const value = typeof raw === "string" && /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
    return typeof value === "number" && value >= min && value <= max ? value : null;
  };
  return { allowed, show: String, schema: valueOf(read, allowed) };
}

/** Bytes, written as a number or with a unit. */
export function size(bounds: Bounds): Kind<number> {
  const allowed = `a size from ${showSize(bounds.min)} to ${showSize(bounds.max)}, such as 65536 or 64KiB`;
  return { allowed, show: showSize, schema: valueOf((raw) => within(bounds, scaledOf(raw, SIZE_UNITS)), allowed) };
}

/** Milliseconds, written as a number or with a unit. */
export function duration(bounds: Bounds): Kind<number> {
  const allowed = `a time from ${showDuration(bounds.min)} to ${showDuration(bounds.max)}, such as 500, 500ms or 30s`;
  const schema = valueOf((raw) => within(bounds, scaledOf(raw, DURATION_UNITS)), allowed);
  return { allowed, show: showDuration, schema };
}

export function choice<const T extends string>(options: readonly T[]): Kind<T> {
  const allowed = `one of ${options.join(", ")}`;
  return { allowed, show: String, schema: valueOf((raw) => options.find((option) => option === raw) ?? null, allowed) };
}

export function yesOrNo(): Kind<boolean> {
  const words: readonly unknown[] = [true, "true", "yes", "on", false, "false", "no", "off"];
  const read = (raw: unknown) => (words.includes(raw) ? words.indexOf(raw) < words.length / 2 : null);
  return { allowed: "true or false", show: String, schema: valueOf(read, "true or false") };
}

export function text(allowed: string, accepts: (value: string) => boolean): Kind<string> {
  const read = (raw: unknown) => (typeof raw === "string" && raw !== "" && accepts(raw) ? raw : null);
  return { allowed, show: String, schema: valueOf(read, allowed) };
}

/** A YAML list, or in one line of text `a,b` or `[a, b]`. */
export function list(allowed: string, accepts: (values: readonly string[]) => boolean): Kind<readonly string[]> {
  const read = (raw: unknown) => {
    const values = typeof raw === "string" ? splitList(raw) : raw;
    if (!Array.isArray(values) || !values.every((value) => typeof value === "string" && value !== "")) return null;
    return accepts(values as string[]) ? (values as string[]) : null;
  };
  const show = (values: readonly string[]) => (values.length === 0 ? "none" : values.join(", "));
  return { allowed, show, schema: valueOf(read, allowed) };
}

/** Also allows one word, which becomes null. */
export function orWord<T>(word: "off" | "auto", kind: Kind<T>): Kind<T | null> {
  const allowed = `${kind.allowed}, or ${word}`;
  const schema = z.unknown().transform((raw, context) => {
    // null is what `config show` prints for the word; false is what older YAML made of `off`.
    if (raw === word || raw === null || (word === "off" && raw === false)) return null;
    const parsed = kind.schema.safeParse(raw);
    if (parsed.success) return parsed.data;
    context.addIssue({ code: "custom", message: refusal(raw, allowed), input: raw });
    return z.NEVER;
  });
  return { allowed, show: (value) => (value === null ? word : kind.show(value)), schema };
}

/** A setting with its default. */
export function setting<T>(kind: Kind<T>, value: T, description: string): z.ZodDefault<z.ZodType<T>> {
  const schema = kind.schema.default(value as z.util.NoUndefined<T>);
  settingMetas.set(schema, { description, allowed: kind.allowed, shownDefault: kind.show(value) });
  return schema;
}

/** A value as an error shows it: recognisable, on one line, never long. */
export function showValue(value: unknown): string {
  const shown = JSON.stringify(value) ?? String(value);
  return shown.length <= 60 ? shown : `${shown.slice(0, 57)}...`;
}

/** Text that stands for a YAML value where only text can be given: environment and flags. */
export function yamlOf(raw: unknown): unknown {
  if (typeof raw !== "string") return raw;
  try {
    return parse(raw) as unknown;
  } catch {
    return raw;
  }
}

function valueOf<T>(read: (raw: unknown) => T | null, allowed: string): z.ZodType<T> {
  return z.unknown().transform((raw, context) => {
    const value = read(raw);
    if (value !== null) return value;
    context.addIssue({ code: "custom", message: refusal(raw, allowed), input: raw });
    return z.NEVER;
  });
}

function refusal(raw: unknown, allowed: string): string {
  const state = raw === undefined ? "is missing" : raw === null ? "is empty" : `${showValue(raw)} is not allowed`;
  return `${state}: give ${allowed}`;
}

function countOf(raw: unknown): number | null {
  const value = typeof raw === "string" && /^\d+$/.test(raw) ? Number(raw) : raw;
  return typeof value === "number" && Number.isSafeInteger(value) ? value : null;
}

function scaledOf(raw: unknown, units: Readonly<Record<string, number>>): number | null {
  const match = typeof raw === "string" ? /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(raw) : null;
  const unit = match === null ? undefined : units[(match[2] as string).toLowerCase()];
  return match === null || unit === undefined ? countOf(raw) : countOf(Number(match[1]) * unit);
}

function within(bounds: Bounds, value: number | null): number | null {
  return value !== null && value >= bounds.min && value <= bounds.max ? value : null;
}

function splitList(raw: string): unknown {
  if (raw.trimStart().startsWith("[")) return yamlOf(raw);
  return raw.split(",").map((part) => part.trim());
}

function showSize(bytes: number): string {
  return formatBytes(bytes).replace(".0 ", "").replace(" ", "");
}

function showDuration(ms: number): string {
  const unit = Object.entries(DURATION_UNITS).findLast(([, unitMs]) => ms >= unitMs && ms % unitMs === 0);
  return unit === undefined ? `${ms}ms` : `${ms / unit[1]}${unit[0]}`;
}

/** Random JSON texts, and an independent reading of them that loses nothing: numbers keep their spelling. */
import fc from "fast-check";

export type MemberText = { readonly name: string; readonly value: string; readonly text: string };
export type DocumentText = { readonly text: string; readonly members: readonly MemberText[] };

/** Names that tend to break things, hot and cold alike. */
export const NAMES = [
  "status",
  "device_id",
  "__proto__",
  "constructor",
  "länge",
  "温度",
  'a"b',
  "\u{1f600}",
  "a",
  "b",
  "toString",
];

const space = fc.constantFrom("", "", "", "", " ", "\n", "\t ", "\r\n  ");
const scalar = fc.oneof(
  fc.constantFrom(
    "0",
    "-0",
    "1.0",
    "1e400",
    "-1E-7",
    "9007199254740993",
    "18446744073709551615",
    "0.10",
    "true",
    "false",
    "null",
  ),
  fc.constantFrom(
    '""',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"é温\u{1f600}"',
    '"a\\"b\\\\"',
    '"},{"',
    '"\\/\\n"',
    '"\u007f"',
  ),
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => JSON.stringify(n)),
  fc.string({ unit: "grapheme", maxLength: 12 }).map((s) => JSON.stringify(s)),
);

/** A name as a JSON string, some of its characters written as escapes. */
export function spelled(name: string): fc.Arbitrary<string> {
  const plain = JSON.stringify(name);
  const escaped = `"${[...Array(name.length).keys()].map((i) => `\\u${name.charCodeAt(i).toString(16).padStart(4, "0")}`).join("")}"`;
  const first = `"${escaped.slice(1, 7)}${JSON.stringify(name.slice(1)).slice(1)}`;
  const isPair = name.charCodeAt(0) >= 0xd800 && name.charCodeAt(0) < 0xe000;
  return name === "" ? fc.constant(plain) : fc.constantFrom(plain, plain, plain, escaped, isPair ? escaped : first);
}

function memberOf(name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<MemberText> {
  return name.chain((chosen) =>
    fc.tuple(spelled(chosen), value, space, space, space, space).map(([key, text, s1, s2, s3, s4]) => ({
      name: chosen,
      value: text,
      text: `${s1}${key}${s2}:${s3}${text}${s4}`,
    })),
  );
}

const tree = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc
      .tuple(space, fc.array(tie("value"), { maxLength: 4 }), space)
      .map(([a, items, b]) => (items.length === 0 ? `[${a}]` : `[${a}${items.join(`${b},${a}`)}${b}]`)),
    fc
      .tuple(space, fc.array(memberOf(nameArbitrary(), tie("value")), { maxLength: 4 }))
      .map(([a, members]) => (members.length === 0 ? `{${a}}` : `{${members.map((member) => member.text).join(",")}}`)),
  ),
}));

/**
 * No name begins with a backslash: V8 13.6 takes another escaped key for such a name when it has just met an object of
 * that shape in a two-byte string, and the oracle parses with V8.
 */
function nameArbitrary(): fc.Arbitrary<string> {
  const drawn = fc.string({ maxLength: 4 }).filter((name) => !name.startsWith("\\"));
  return fc.oneof(fc.constantFrom(...NAMES), drawn);
}

export const valueText: fc.Arbitrary<string> = tree.value;

/** Objects whose member names may repeat, but for those in `unique`. */
export function documentText(unique: readonly string[]): fc.Arbitrary<DocumentText> {
  return fc
    .tuple(fc.array(memberOf(nameArbitrary(), valueText), { maxLength: 9 }), space, space, space)
    .map(([drawn, before, inside, after]) => {
      const seen = new Set<string>();
      const members = drawn.filter(({ name }) => !unique.includes(name) || (!seen.has(name) && seen.add(name)));
      const body = members.length === 0 ? inside : members.map((member) => member.text).join(",");
      return { text: `${before}{${body}}${after}`, members };
    });
}

/** Patches of a few members; values may be null at any level. */
export function patchText(names: readonly string[]): fc.Arbitrary<string> {
  return fc
    .array(memberOf(fc.constantFrom(...names), fc.oneof(valueText, fc.constant("null"))), { maxLength: 4 })
    .map((members) => `{${members.map((member) => member.text).join(",")}}`);
}

/** Cuts bytes into copies of random sizes, some of them empty. */
export function cutBytes(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i += 1) {
    const size =
      sizes.length === 0 ? bytes.length : (sizes[i % sizes.length] as number) + (i % sizes.length === 0 ? 1 : 0);
    chunks.push(Uint8Array.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

export type JsonModel = string | boolean | null | readonly JsonModel[] | ReadonlyMap<string, JsonModel>;

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

/** What a text means, with objects as maps and numbers as they are spelled. @throws SyntaxError */
export function modelOf(text: string): JsonModel {
  const revive: Reviver = (_key, value, context) => {
    if (typeof value === "number") return `number ${context.source}`;
    if (typeof value === "string") return `string ${value}`;
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return new Map(Object.entries(value));
  };
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown) as JsonModel;
}

/** RFC 7396 section 2, on values. */
export function mergedModel(target: JsonModel | undefined, patch: JsonModel): JsonModel {
  if (!(patch instanceof Map)) return patch;
  const result = new Map<string, JsonModel>(target instanceof Map ? target : []);
  for (const [name, value] of patch as ReadonlyMap<string, JsonModel>) {
    if (value === null) result.delete(name);
    else result.set(name, mergedModel(result.get(name), value));
  }
  return result;
}

/** The top-level members of an object as they are written, found by a scanner that knows only strings and brackets. */
export function rawMembers(text: string): { readonly name: string; readonly value: string }[] {
  const parts: string[] = [];
  let depth = 0;
  let inString = false;
  let part = "";
  for (let i = 0; i < text.length; i += 1) {
    const char = text.charAt(i);
    if (inString && char === "\\") {
      part += char + text.charAt((i += 1));
      continue;
    }
    if (char === '"') inString = !inString;
    if (!inString && (char === "}" || char === "]")) depth -= 1;
    const structural = !inString && (depth === 0 || (depth === 1 && (char === "," || char === ":")));
    if (structural && char !== " " && char !== "\n" && char !== "\r" && char !== "\t") {
      parts.push(part.trim());
      part = "";
    } else part += char;
    if (!inString && (char === "{" || char === "[")) depth += 1;
  }
  // parts: text before the brace, then key, value, key, value, …
  const members = [];
  for (let i = 1; i + 1 < parts.length; i += 2) {
    members.push({ name: JSON.parse(parts[i] as string) as string, value: parts[i + 1] as string });
  }
  return members;
}

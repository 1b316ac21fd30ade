/**
 * Moves over JSON that is known to be valid, in memory. Nothing is checked again, but every step ends within the bytes
 * and asserts that it got ahead, so bytes that are not valid after all cannot hang a thread.
 */
import { assert } from "../lib/assert.ts";

export const OPENING_BRACE = 0x7b;
export const COMMA_BYTE = 0x2c;
const CLOSING_BRACE = 0x7d;
const OPENING_BRACKET = 0x5b;
const CLOSING_BRACKET = 0x5d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;

/** One member of an object, as offsets into its bytes. */
export type MemberSpan = {
  readonly ordinal: number;
  /** Offset of the comma before it; -1 for the first. */
  readonly commaAt: number;
  readonly keyAt: number;
  /** After the closing quote of the key. */
  readonly keyEnd: number;
  readonly valueAt: number;
};

/**
 * Visits the members of the object whose opening brace is at `at`. The visitor answers where the value ends, so that
 * whoever descends into a value does not pass over it twice. @returns the offset of the closing brace
 */
export function walkMembers(bytes: Uint8Array, at: number, visit: (member: MemberSpan) => number): number {
  assert(bytes[at] === OPENING_BRACE, "an object begins with a brace");
  let index = skipSpace(bytes, at + 1);
  let commaAt = -1;
  for (let ordinal = 0; bytes[index] !== CLOSING_BRACE; ordinal += 1) {
    if (ordinal > 0) {
      commaAt = index;
      index = skipSpace(bytes, index + 1);
    }
    const keyAt = index;
    const keyEnd = skipString(bytes, keyAt);
    const valueAt = skipSpace(bytes, skipSpace(bytes, keyEnd) + 1);
    index = skipSpace(bytes, visit({ ordinal, commaAt, keyAt, keyEnd, valueAt }));
    assert(index > valueAt && index < bytes.length, "a member ends within its object");
  }
  return index;
}

/** @returns the offset after the value that begins at `at` */
export function skipValue(bytes: Uint8Array, at: number): number {
  const first = bytes[at];
  if (first === QUOTE) return skipString(bytes, at);
  if (first !== OPENING_BRACE && first !== OPENING_BRACKET) return skipScalar(bytes, at);
  let depth = 0;
  let index = at;
  while (index < bytes.length) {
    const byte = bytes[index] as number;
    if (byte === QUOTE) {
      index = skipString(bytes, index);
      continue;
    }
    index += 1;
    if (byte === OPENING_BRACE || byte === OPENING_BRACKET) depth += 1;
    else if (byte === CLOSING_BRACE || byte === CLOSING_BRACKET) depth -= 1;
    if (depth === 0) break;
  }
  return index;
}

export function skipSpace(bytes: Uint8Array, at: number): number {
  let index = at;
  while (index < bytes.length && (bytes[index] as number) <= SPACE) index += 1;
  return index;
}

function skipString(bytes: Uint8Array, at: number): number {
  let index = at + 1;
  while (index < bytes.length && bytes[index] !== QUOTE) index += bytes[index] === BACKSLASH ? 2 : 1;
  return index + 1;
}

function skipScalar(bytes: Uint8Array, at: number): number {
  let index = at;
  while (index < bytes.length && !endsScalar(bytes[index] as number)) index += 1;
  return index;
}

function endsScalar(byte: number): boolean {
  return byte <= SPACE || byte === COMMA_BYTE || byte === CLOSING_BRACE || byte === CLOSING_BRACKET;
}

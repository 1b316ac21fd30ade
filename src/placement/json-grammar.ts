/**
 * The grammar of RFC 8259 as a table: `TRANSITIONS[state << 8 | byte]` is the next state, or an action from `FAIL` on.
 * One load per byte decides everything that needs no memory; what needs it (nesting, whether a string is a key) is done
 * by the scanner on an action. UTF-8 is part of the grammar: a document with other bytes is no JSON.
 *
 * Watched values are those whose exact span somebody wants. Their first byte and the end of a number or literal
 * are actions too, so they have states of their own and all other values stay fast.
 */
export const START = 0;
export const OBJECT_FIRST = 1;
export const KEY = 2;
export const COLON = 3;
export const VALUE = 4;
export const ARRAY_FIRST = 5;
export const AFTER = 6;
export const DONE = 7;
export const STRING = 8;
const ESCAPE = 9;
const HEX_4 = 10;
const HEX_3 = 11;
const HEX_2 = 12;
const HEX_1 = 13;
const UTF8_1 = 14;
const UTF8_2 = 15;
const UTF8_3 = 16;
const UTF8_E0 = 17;
const UTF8_ED = 18;
const UTF8_F0 = 19;
const UTF8_F4 = 20;
/** From `STRING` up to here: between the quotes. */
export const STRING_LAST = UTF8_F4;
const SCALARS = 21;
const SCALAR_COUNT = 18;
export const WATCH_COLON = SCALARS + SCALAR_COUNT;
const WATCH_BEFORE = WATCH_COLON + 1;
export const WATCH_VALUE = WATCH_COLON + 2;
const WATCH_SCALARS = WATCH_COLON + 3;
const STATE_COUNT = WATCH_SCALARS + SCALAR_COUNT;

export const FAIL = 64;
export const OPEN_OBJECT = 65;
export const OPEN_ARRAY = 66;
export const CLOSE_OBJECT = 67;
export const CLOSE_ARRAY = 68;
export const COMMA = 69;
export const QUOTE_KEY = 70;
export const QUOTE_VALUE = 71;
export const QUOTE_END = 72;
/** A watched value begins at this byte, which is not consumed. */
export const WATCH_BEGIN = 73;
/** A watched number ended before this byte, which is not consumed. */
export const WATCH_END_BEFORE = 74;
/** A watched literal ends with this byte. */
export const WATCH_END_WITH = 75;

const WHITESPACE = " \t\n\r";
const DIGITS = "0123456789";

export const TRANSITIONS: Uint8Array = buildTransitions();

/** 1 for the bytes that a string body may hold without any further state: printable ASCII but quote and backslash. */
export const PLAIN: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) =>
  TRANSITIONS[(STRING << 8) | byte] === STRING ? 1 : 0,
);

/** What the grammar wants in a state, in words for the reader of an error. */
export function expectationOf(state: number): string {
  switch (state) {
    case START:
      return "a JSON object";
    case OBJECT_FIRST:
      return "a key in double quotes or the end of the object";
    case KEY:
      return "a key in double quotes";
    case COLON:
    case WATCH_COLON:
      return "a colon";
    case VALUE:
    case WATCH_BEFORE:
    case WATCH_VALUE:
      return "a value";
    case ARRAY_FIRST:
      return "a value or the end of the array";
    case AFTER:
      return "a comma or the end of the object or array";
    case DONE:
      return "nothing but whitespace after the object";
    case STRING:
      return "the characters of a string without raw control characters";
    case ESCAPE:
      return "an escape sequence";
    case HEX_4:
    case HEX_3:
    case HEX_2:
    case HEX_1:
      return "four hexadecimal digits";
    default:
      return state < SCALARS ? "well-formed UTF-8" : "a number, true, false or null";
  }
}

function buildTransitions(): Uint8Array {
  const table = new Uint8Array(STATE_COUNT << 8).fill(FAIL);
  const on = (state: number, bytes: string, next: number): void => {
    for (let i = 0; i < bytes.length; i += 1) table[(state << 8) | bytes.charCodeAt(i)] = next;
  };
  const onRange = (state: number, first: number, last: number, next: number): void => {
    table.fill(next, (state << 8) | first, ((state << 8) | last) + 1);
  };

  for (const state of [START, OBJECT_FIRST, KEY, COLON, VALUE, ARRAY_FIRST, AFTER, DONE]) on(state, WHITESPACE, state);
  on(START, "{", OPEN_OBJECT);
  on(OBJECT_FIRST, '"', QUOTE_KEY);
  on(OBJECT_FIRST, "}", CLOSE_OBJECT);
  on(KEY, '"', QUOTE_KEY);
  on(COLON, ":", VALUE);
  on(ARRAY_FIRST, "]", CLOSE_ARRAY);
  on(AFTER, ",", COMMA);
  on(AFTER, "}", CLOSE_OBJECT);
  on(AFTER, "]", CLOSE_ARRAY);
  addValue(on, VALUE, SCALARS);
  addValue(on, ARRAY_FIRST, SCALARS);
  addScalars(on, SCALARS, { number: AFTER, literal: AFTER });
  // Unwatched numbers end with whatever may follow a value.
  for (const state of numberEnds(SCALARS)) {
    on(state, ",", COMMA);
    on(state, "}", CLOSE_OBJECT);
    on(state, "]", CLOSE_ARRAY);
  }

  on(WATCH_COLON, WHITESPACE, WATCH_COLON);
  on(WATCH_COLON, ":", WATCH_BEFORE);
  onRange(WATCH_BEFORE, 0, 255, WATCH_BEGIN);
  on(WATCH_BEFORE, WHITESPACE, WATCH_BEFORE);
  addValue(on, WATCH_VALUE, WATCH_SCALARS);
  addScalars(on, WATCH_SCALARS, { number: WATCH_END_BEFORE, literal: WATCH_END_WITH });
  for (const state of numberEnds(WATCH_SCALARS)) on(state, ",}]", WATCH_END_BEFORE);

  addStrings(on, onRange);
  return table;
}

type On = (state: number, bytes: string, next: number) => void;
type OnRange = (state: number, first: number, last: number, next: number) => void;

function addValue(on: On, state: number, scalars: number): void {
  on(state, "{", OPEN_OBJECT);
  on(state, "[", OPEN_ARRAY);
  on(state, '"', QUOTE_VALUE);
  on(state, "-", scalars);
  on(state, "0", scalars + 1);
  on(state, "123456789", scalars + 2);
  on(state, "t", scalars + 8);
  on(state, "f", scalars + 11);
  on(state, "n", scalars + 15);
}

/** Eight states of a number (minus, zero, integer, point, fraction, e, sign, exponent), ten of the literals. */
function addScalars(on: On, base: number, ends: { number: number; literal: number }): void {
  const [minus, zero, integer, point, fraction, e, sign, exponent] = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => base + n) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  on(minus, "0", zero);
  on(minus, "123456789", integer);
  on(integer, DIGITS, integer);
  for (const state of [zero, integer]) on(state, ".", point);
  for (const state of [point, fraction]) on(state, DIGITS, fraction);
  for (const state of [zero, integer, fraction]) on(state, "eE", e);
  on(e, "+-", sign);
  for (const state of [e, sign, exponent]) on(state, DIGITS, exponent);
  for (const state of numberEnds(base)) on(state, WHITESPACE, ends.number);

  let state = base + 8;
  for (const word of ["true", "false", "null"]) {
    for (let i = 1; i < word.length; i += 1) {
      on(state, word.charAt(i), i === word.length - 1 ? ends.literal : state + 1);
      state += 1;
    }
  }
}

function numberEnds(base: number): number[] {
  return [base + 1, base + 2, base + 4, base + 7];
}

/** String bodies, escapes, and UTF-8 as in table 3-7 of the Unicode standard. */
function addStrings(on: On, onRange: OnRange): void {
  onRange(STRING, 0x20, 0x7f, STRING);
  on(STRING, '"', QUOTE_END);
  on(STRING, "\\", ESCAPE);
  on(ESCAPE, '"\\/bfnrt', STRING);
  on(ESCAPE, "u", HEX_4);
  for (const [state, next] of [
    [HEX_4, HEX_3],
    [HEX_3, HEX_2],
    [HEX_2, HEX_1],
    [HEX_1, STRING],
  ] as const) {
    on(state, `${DIGITS}abcdefABCDEF`, next);
  }
  onRange(STRING, 0xc2, 0xdf, UTF8_1);
  onRange(STRING, 0xe0, 0xef, UTF8_2);
  onRange(STRING, 0xe0, 0xe0, UTF8_E0);
  onRange(STRING, 0xed, 0xed, UTF8_ED);
  onRange(STRING, 0xf0, 0xf0, UTF8_F0);
  onRange(STRING, 0xf1, 0xf3, UTF8_3);
  onRange(STRING, 0xf4, 0xf4, UTF8_F4);
  onRange(UTF8_1, 0x80, 0xbf, STRING);
  onRange(UTF8_2, 0x80, 0xbf, UTF8_1);
  onRange(UTF8_3, 0x80, 0xbf, UTF8_2);
  onRange(UTF8_E0, 0xa0, 0xbf, UTF8_1);
  onRange(UTF8_ED, 0x80, 0x9f, UTF8_1);
  onRange(UTF8_F0, 0x90, 0xbf, UTF8_2);
  onRange(UTF8_F4, 0x80, 0x8f, UTF8_2);
}

/**
 * A validating JSON scanner over bytes that arrive in any pieces. It reads one object, keeps O(1) memory, and reports
 * what happens at the top level only: everything deeper is checked and passed over. It never throws on input;
 * a problem is an event, because for some callers bytes that are no JSON are welcome.
 */
import type { ErrorCode } from "../domain/errors.ts";
import { StoreError } from "../domain/errors.ts";
import { LIMITS } from "../limits.ts";
import {
  AFTER,
  ARRAY_FIRST,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  DONE,
  expectationOf,
  FAIL,
  KEY,
  OBJECT_FIRST,
  OPEN_ARRAY,
  OPEN_OBJECT,
  PLAIN,
  QUOTE_END,
  QUOTE_KEY,
  QUOTE_VALUE,
  START,
  STRING,
  STRING_LAST,
  TRANSITIONS,
  VALUE,
  WATCH_BEGIN,
  WATCH_COLON,
  WATCH_END_BEFORE,
  WATCH_END_WITH,
  WATCH_VALUE,
} from "./json-grammar.ts";

/** All bytes fed so far are scanned; `feed` comes before the next `next`. */
export const EVENT_STARVED = 0;
/** The key of a member has been read: `rawName`, `keyAt`. `watch` may be called now. */
export const EVENT_KEY = 1;
/** The watched value begins at `at`. */
export const EVENT_VALUE = 2;
/** The watched value ended before `at`. */
export const EVENT_VALUE_END = 3;
/** A comma between members stands at `at`. */
export const EVENT_COMMA = 4;
/** The closing brace stands at `at`. Only whitespace may follow. */
export const EVENT_CLOSE = 5;
/** The bytes are no JSON object: see `problem`. Nothing more is scanned. */
export const EVENT_PROBLEM = 6;

export type JsonProblem = {
  readonly code: Extract<ErrorCode, "json_invalid" | "json_not_object" | "json_too_deep">;
  /** Bytes from the start of the document. */
  readonly offset: number;
  readonly reason: string;
};

const IN_ARRAY = 0;
const IN_OBJECT = 1;
/** A name of the longest allowed kind, every byte of it written as `\u00xx`. */
const RAW_NAME_BYTES_MAX = LIMITS.hotFieldNameBytesMax * 6;
const NOTHING: Uint8Array = new Uint8Array(0);

export class JsonScanner {
  /** Offset in the document that the last event speaks of. */
  at = 0;
  /** Offset of the opening quote of the last top-level key. */
  keyAt = 0;
  problem: JsonProblem | null = null;
  /** Offset in the document of the first byte of the bytes being scanned. */
  chunkAt = 0;

  #bytes = NOTHING;
  #index = 0;
  #state = START;
  #depth = 0;
  /** The kind of the container at each depth. */
  readonly #kinds = new Uint8Array(LIMITS.jsonDepthMax + 1);
  #inKey = false;
  #watching = false;
  /** Key bytes of earlier chunks, when a top-level key straddles. */
  readonly #nameBuffer = new Uint8Array(RAW_NAME_BYTES_MAX);
  #nameBuffered = 0;
  #nameEnd = 0;

  /** Hands over the next bytes; all earlier ones must be scanned. They are only read, until the next `feed`. */
  feed(bytes: Uint8Array): void {
    this.chunkAt += this.#bytes.length;
    // One hidden class for the hot loop, whatever kind of bytes the caller has.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#index = 0;
  }

  /** After `EVENT_KEY`: reports where the value of this member begins and ends. */
  watch(): void {
    this.#state = WATCH_COLON;
    this.#watching = true;
  }

  /** After `EVENT_KEY`: the bytes between the quotes; null for a key that is too long to be kept across chunks. */
  rawName(): Uint8Array | null {
    const start = this.keyAt + 1 - this.chunkAt;
    if (start >= 0) return this.#bytes.subarray(start, this.#nameEnd);
    const total = this.#nameBuffered + this.#nameEnd;
    if (total > RAW_NAME_BYTES_MAX) return null;
    this.#nameBuffer.set(this.#bytes.subarray(0, this.#nameEnd), this.#nameBuffered);
    return this.#nameBuffer.subarray(0, total);
  }

  /** Scans on to the next event. */
  next(): number {
    const bytes = this.#bytes;
    const end = bytes.length;
    let index = this.#index;
    let state = this.#state;
    for (;;) {
      if (state === STRING) while (index < end && PLAIN[bytes[index] as number] === 1) index += 1;
      if (index >= end) break;
      const next = TRANSITIONS[(state << 8) | (bytes[index] as number)] as number;
      if (next < FAIL) {
        state = next;
        index += 1;
        continue;
      }
      switch (next) {
        case QUOTE_VALUE:
          this.#inKey = false;
          state = STRING;
          break;
        case QUOTE_KEY:
          this.#inKey = true;
          if (this.#depth === 1) this.#beginName(index);
          state = STRING;
          break;
        case QUOTE_END:
          state = this.#inKey ? COLON : AFTER;
          if (this.#depth === 1 && (this.#inKey || this.#watching)) return this.#endTopString(state, index);
          break;
        case COMMA:
          state = this.#kinds[this.#depth] === IN_OBJECT ? KEY : VALUE;
          if (this.#depth === 1) return this.#pause(EVENT_COMMA, state, index + 1, index);
          break;
        case OPEN_OBJECT:
        case OPEN_ARRAY: {
          if (this.#depth >= LIMITS.jsonDepthMax) return this.#failDepth(index);
          const kind = next === OPEN_OBJECT ? IN_OBJECT : IN_ARRAY;
          this.#depth += 1;
          this.#kinds[this.#depth] = kind;
          state = kind === IN_OBJECT ? OBJECT_FIRST : ARRAY_FIRST;
          break;
        }
        case CLOSE_OBJECT:
        case CLOSE_ARRAY:
          if (this.#kinds[this.#depth] !== (next === CLOSE_OBJECT ? IN_OBJECT : IN_ARRAY))
            return this.#fail(AFTER, index);
          this.#depth -= 1;
          state = AFTER;
          if (this.#depth === 0) return this.#pause(EVENT_CLOSE, DONE, index + 1, index);
          if (this.#depth === 1 && this.#watching) return this.#endWatched(index + 1);
          break;
        case WATCH_BEGIN:
          return this.#pause(EVENT_VALUE, WATCH_VALUE, index, index);
        case WATCH_END_BEFORE:
          return this.#endWatched(index);
        case WATCH_END_WITH:
          return this.#endWatched(index + 1);
        default:
          return this.#fail(state, index);
      }
      index += 1;
    }
    return this.#starve(state, index);
  }

  /** Ends the document. @returns what is wrong with it, or null when it is a whole JSON object */
  finish(): JsonProblem | null {
    if (this.problem === null && this.#state !== DONE) {
      const offset = this.chunkAt + this.#bytes.length;
      this.problem = {
        code: "json_invalid",
        offset,
        reason: `the document ends at byte ${offset}, expected ${expectationOf(this.#state)}`,
      };
    }
    return this.problem;
  }

  #pause(event: number, state: number, index: number, atIndex: number): number {
    this.#state = state;
    this.#index = index;
    this.at = this.chunkAt + atIndex;
    return event;
  }

  #endWatched(index: number): number {
    this.#watching = false;
    return this.#pause(EVENT_VALUE_END, AFTER, index, index);
  }

  #beginName(index: number): void {
    this.keyAt = this.chunkAt + index;
    this.#nameBuffered = 0;
  }

  #endTopString(state: number, index: number): number {
    if (!this.#inKey) return this.#endWatched(index + 1);
    this.#nameEnd = index;
    return this.#pause(EVENT_KEY, state, index + 1, index);
  }

  #starve(state: number, index: number): number {
    // Escapes and multi-byte characters have states of their own, so "within a key" is: not yet past its quote.
    const withinKey = this.#depth === 1 && this.#inKey && state >= STRING && state <= STRING_LAST;
    if (withinKey) this.#keepName(index);
    return this.#pause(EVENT_STARVED, state, index, index);
  }

  #keepName(index: number): void {
    const part = this.#bytes.subarray(Math.max(0, this.keyAt + 1 - this.chunkAt), index);
    if (this.#nameBuffered + part.length <= RAW_NAME_BYTES_MAX) this.#nameBuffer.set(part, this.#nameBuffered);
    this.#nameBuffered += part.length;
  }

  #fail(state: number, index: number): number {
    const offset = this.chunkAt + index;
    const byte = (this.#bytes[index] as number).toString(16).padStart(2, "0");
    const isMark = state === START && byte === "ef";
    this.problem = {
      code: state === START && !isMark ? "json_not_object" : "json_invalid",
      offset,
      reason: `byte ${offset} is 0x${byte}${isMark ? ", a byte order mark" : ""}, expected ${expectationOf(state)}`,
    };
    return this.#pause(EVENT_PROBLEM, state, index, index);
  }

  #failDepth(index: number): number {
    const offset = this.chunkAt + index;
    this.problem = {
      code: "json_too_deep",
      offset,
      reason: `byte ${offset} opens level ${this.#depth + 1}, at most ${LIMITS.jsonDepthMax} are allowed`,
    };
    return this.#pause(EVENT_PROBLEM, this.#state, index, index);
  }
}

export function jsonError(subject: string, problem: JsonProblem): StoreError {
  return new StoreError(problem.code, `Cannot read ${subject}: ${problem.reason}`, {
    details: { offset: problem.offset },
  });
}

/** @throws {StoreError} `json_invalid`, `json_not_object`, `json_too_deep` */
export function validateJsonObject(bytes: Uint8Array, subject: string): void {
  const scanner = new JsonScanner();
  scanner.feed(bytes);
  let event = scanner.next();
  while (event !== EVENT_STARVED && event !== EVENT_PROBLEM) event = scanner.next();
  const problem = scanner.finish();
  if (problem !== null) throw jsonError(subject, problem);
}

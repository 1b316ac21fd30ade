/**
 * Splits a JSON object into hot and cold bytes while it streams by, without re-serialising: the hot part is the values
 * of hot top-level fields back to back, the cold part is every other byte, and the layout says how they interleave.
 *
 * Invariants: hot and cold bytes, put together by the layout, are the document, whatever it was and however it was cut
 * into chunks. A value is hot or cold as a whole, unless it turned out too large (or the document no JSON) after its
 * first bytes had already been taken: those stay in the hot part under an entry without a name.
 */
import { StoreError } from "../domain/errors.ts";
import type { HotField, HybridLayout } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";
import { LIMITS } from "../limits.ts";
import { ByteWriter } from "./byte-writer.ts";
import { createNameMatcher, type NameMatcher } from "./json-names.ts";
import {
  EVENT_CLOSE,
  EVENT_COMMA,
  EVENT_KEY,
  EVENT_PROBLEM,
  EVENT_STARVED,
  EVENT_VALUE,
  EVENT_VALUE_END,
  JsonScanner,
  jsonError,
} from "./json-scanner.ts";

export type SplitOptions = {
  readonly hotFields: readonly string[];
  /** strict: anything but a JSON object with unique hot fields is refused. lenient: such bytes pass through unaddressable. */
  readonly mode: "strict" | "lenient";
};

export type JsonSplitter = {
  /**
   * Scans the next bytes and moves the cold ones among them down to the start of `bytes`; answers how many are cold.
   * @throws {StoreError} strict only: `json_invalid`, `json_not_object`, `json_too_deep`, `hot_field_duplicate`, with
   * `details.offset` in bytes from the start of the document
   */
  push(bytes: Uint8Array): number;
  /** @throws {StoreError} strict only, as `push` */
  finish(): { hot: Uint8Array; layout: HybridLayout };
};

/**
 * Names that can be hot: not empty, well-formed, within `LIMITS.hotFieldNameBytesMax`, at most `LIMITS.hotFieldsMax` of
 * them. Others in `options.hotFields` are left alone.
 */
export function createJsonSplitter(options: SplitOptions): JsonSplitter {
  return new Splitter(options);
}

type FieldDraft = { -readonly [Name in keyof HotField]: HotField[Name] };

class Splitter implements JsonSplitter {
  readonly #strict: boolean;
  readonly #names: readonly string[];
  readonly #match: NameMatcher;
  readonly #scanner = new JsonScanner();
  readonly #hot = new ByteWriter();
  readonly #fields: FieldDraft[] = [];
  readonly #seen = new Set<number>();
  /** False from the first problem on: everything is cold, nothing is scanned. */
  #addressable = true;
  #memberCount = 0;
  #closeAt = -1;
  /** Cold offset of the last top-level comma. */
  #commaAt = -1;
  /** The hot field whose member is being read; entered into the table when bytes of it are hot. */
  #field: FieldDraft | null = null;
  /** Whether the value of `#field` is being read, and from where in the current chunk it is not taken yet. */
  #valueOpen = false;
  #valueFrom = 0;
  /** The cold bytes of the current chunk that were moved down end here; those from `#runFrom` on were not looked at. */
  #coldEnd = 0;
  #runFrom = 0;

  constructor(options: SplitOptions) {
    this.#strict = options.mode === "strict";
    this.#names = eligibleNames(options.hotFields);
    this.#match = createNameMatcher(this.#names);
  }

  push(bytes: Uint8Array): number {
    if (!this.#addressable) return bytes.length;
    this.#coldEnd = 0;
    this.#runFrom = 0;
    this.#valueFrom = 0;
    this.#scanner.feed(bytes);
    while (this.#addressable) {
      const event = this.#scanner.next();
      if (event === EVENT_STARVED) break;
      this.#handle(event, bytes);
    }
    if (this.#valueOpen) this.#takeValue(bytes, bytes.length);
    this.#moveRun(bytes, bytes.length);
    return this.#coldEnd;
  }

  finish(): { hot: Uint8Array; layout: HybridLayout } {
    if (this.#addressable) {
      const problem = this.#scanner.finish();
      if (problem !== null) this.#giveUp(jsonError("the document", problem));
    }
    const hot = this.#hot.take();
    const fields = this.#fields;
    const taken = fields.reduce((sum, field) => sum + field.valueBytes, 0);
    assert(taken === hot.length, "the table accounts for every hot byte");
    const addressable = this.#addressable;
    const absent = addressable ? this.#names.filter((_, index) => !this.#seen.has(index)) : [];
    const layout = { memberCount: this.#memberCount, closeAt: this.#closeAt, fields, absent, addressable };
    return { hot, layout };
  }

  #handle(event: number, bytes: Uint8Array): void {
    switch (event) {
      case EVENT_KEY:
        this.#beginMember();
        break;
      case EVENT_VALUE:
        this.#beginValue();
        break;
      case EVENT_VALUE_END:
        if (this.#valueOpen) this.#takeValue(bytes, this.#scanner.at - this.#scanner.chunkAt);
        this.#valueOpen = false;
        break;
      case EVENT_COMMA:
        this.#commaAt = this.#coldOffset(this.#scanner.at);
        if (this.#field !== null) this.#field.commaAfter = this.#commaAt;
        this.#field = null;
        break;
      case EVENT_CLOSE:
        this.#closeAt = this.#coldOffset(this.#scanner.at);
        this.#field = null;
        break;
      default:
        assert(event === EVENT_PROBLEM && this.#scanner.problem !== null, "the scanner names its problem");
        this.#giveUp(jsonError("the document", this.#scanner.problem));
    }
  }

  #beginMember(): void {
    const ordinal = this.#memberCount;
    this.#memberCount += 1;
    const raw = this.#scanner.rawName();
    const match = raw === null ? -1 : this.#match(raw);
    if (match === -1) return;
    if (this.#seen.has(match)) return this.#giveUp(duplicateError(this.#scanner.keyAt));
    this.#seen.add(match);
    this.#scanner.watch();
    this.#field = {
      name: this.#names[match] as string,
      ordinal,
      commaBefore: ordinal === 0 ? -1 : this.#commaAt,
      keyAt: this.#coldOffset(this.#scanner.keyAt),
      valueAt: -1,
      commaAfter: -1,
      valueBytes: 0,
    };
  }

  #beginValue(): void {
    assert(this.#field !== null, "only values of hot fields are watched");
    this.#field.valueAt = this.#coldOffset(this.#scanner.at);
    this.#valueOpen = true;
    this.#valueFrom = this.#scanner.at - this.#scanner.chunkAt;
  }

  /** Makes the open value's bytes up to `end` of this chunk hot, or, once it is too large, lets it be cold from here on. */
  #takeValue(bytes: Uint8Array, end: number): void {
    const field = this.#field;
    assert(field !== null && this.#valueFrom <= end, "an open value has a field");
    const from = this.#valueFrom;
    this.#valueFrom = end;
    if (field.valueBytes + end - from > LIMITS.hotValueBytesMax) return this.#dropValue();
    if (end === from) return;
    this.#moveRun(bytes, from);
    this.#hot.push(bytes, from, end);
    this.#runFrom = end;
    if (field.valueBytes === 0) this.#fields.push(field);
    field.valueBytes += end - from;
  }

  /** The open value is not hot after all. Bytes of it that are in the hot part already stay there, nameless. */
  #dropValue(): void {
    if (this.#field !== null) this.#field.name = "";
    this.#field = null;
    this.#valueOpen = false;
  }

  /** Moves the cold bytes from the end of the last hot value up to `end` down to where they belong. */
  #moveRun(bytes: Uint8Array, end: number): void {
    if (this.#coldEnd !== this.#runFrom) bytes.copyWithin(this.#coldEnd, this.#runFrom, end);
    this.#coldEnd += end - this.#runFrom;
    this.#runFrom = end;
  }

  /** Where a byte of the document lies in the cold bytes; good for any place after the last byte that was made hot. */
  #coldOffset(at: number): number {
    return at - this.#hot.length;
  }

  #giveUp(error: StoreError): void {
    if (this.#strict) throw error;
    this.#addressable = false;
    if (this.#valueOpen) this.#dropValue();
  }
}

function eligibleNames(names: readonly string[]): string[] {
  const eligible = names.filter(
    (name) => name !== "" && name.isWellFormed() && Buffer.byteLength(name) <= LIMITS.hotFieldNameBytesMax,
  );
  return [...new Set(eligible)].slice(0, LIMITS.hotFieldsMax);
}

function duplicateError(offset: number): StoreError {
  // The name is the client's content and stays out of logs; the offset finds it.
  return new StoreError(
    "hot_field_duplicate",
    `Cannot split the document: the hot field at byte ${offset} is there twice`,
    {
      details: { offset },
    },
  );
}

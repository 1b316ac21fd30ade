import { LIMITS } from "../limits.ts";
import type { StoredRecord } from "../domain/record.ts";
import { assert } from "../lib/assert.ts";
import type { ListOptions, ListPage } from "./metadata-store.ts";

/**
 * What a listing is, apart from where the keys come from: the store offers keys in byte order from `from` on, and this
 * says what to do next. Order and ranges are those of UTF-8 bytes; JavaScript's own string order differs from it where
 * characters beyond U+FFFF meet U+E000…U+FFFF.
 *
 * `after` leaves out the keys up to and including it. When it is itself a common prefix of this listing, the whole group
 * is left out, so that `next` continues rightly; when it lies inside a group, the group is listed for its later keys.
 */
export class ListPageBuilder {
  readonly #options: ListOptions;
  readonly #entries: StoredRecord[] = [];
  readonly #commonPrefixes: string[] = [];
  /** Where the keys of this listing end, exclusive; null for the end of the bucket. */
  readonly end: Buffer | null;
  #from: Buffer;
  #last = "";
  #isTruncated = false;

  constructor(options: ListOptions) {
    assert(options.limit >= 1 && options.limit <= LIMITS.listPageMax, "a page has 1 to listPageMax entries");
    this.#options = options;
    const prefix = Buffer.from(options.prefix);
    if (prefix.length > LIMITS.keyBytesMax) {
      // No key is that long; and such bounds would be longer than a store can seek.
      this.#from = this.end = Buffer.of(0);
      return;
    }
    const behind = startAfter(options);
    this.#from = Buffer.compare(prefix, behind) > 0 ? prefix : behind;
    this.end = prefix.length === 0 ? null : successorOf(prefix);
  }

  /** Where to begin and where to go on after "seek", inclusive. */
  get from(): Buffer {
    return this.#from;
  }

  /**
   * Takes the next key. `decode` is called when the record belongs on the page. Answers "next": offer the key that
   * follows; "seek": offer the first key from `from` on; "full": offer no more.
   */
  offer(key: string, isReadable: boolean, decode: () => StoredRecord): "next" | "seek" | "full" {
    if (!isReadable) return "next";
    if (this.#entries.length + this.#commonPrefixes.length === this.#options.limit) {
      this.#isTruncated = true;
      return "full";
    }
    const group = groupOf(key, this.#options);
    if (group === null) {
      this.#entries.push(decode());
      this.#last = key;
      return "next";
    }
    this.#commonPrefixes.push(group);
    this.#last = group;
    this.#from = successorOf(Buffer.from(group));
    return "seek";
  }

  finish(): ListPage {
    return {
      entries: this.#entries,
      commonPrefixes: this.#commonPrefixes,
      next: this.#isTruncated ? this.#last : null,
    };
  }
}

/** The first bytes behind every key that starts with `prefix`, which must not be empty. */
export function successorOf(prefix: Buffer): Buffer {
  const bytes = Buffer.from(prefix);
  // UTF-8 has no byte 0xFF, so the last byte can always be raised.
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) + 1;
  return bytes;
}

/** The common prefix that stands for `key` in a listing, or null when the key stands for itself. */
function groupOf(key: string, options: ListOptions): string | null {
  if (options.delimiter === "") return null;
  const at = key.indexOf(options.delimiter, options.prefix.length);
  return at === -1 ? null : key.slice(0, at + options.delimiter.length);
}

function startAfter(options: ListOptions): Buffer {
  const { after, prefix } = options;
  if (after === "") return Buffer.alloc(0);
  // No key is longer, so the bytes behind the limit decide nothing.
  const bytes = Buffer.from(after).subarray(0, LIMITS.keyBytesMax);
  if (after.startsWith(prefix) && groupOf(after, options) === after) return successorOf(bytes);
  // No key holds a NUL, so nothing lies between a text and the same text with one.
  return Buffer.concat([bytes, Buffer.of(0)]);
}

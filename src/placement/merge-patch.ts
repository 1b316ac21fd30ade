/**
 * JSON merge patch (RFC 7396) on texts instead of values. Members that the patch does not name keep their bytes, and
 * numbers of the patch keep their spelling: no value goes through a double.
 *
 * Names may be there more than once. In a patch the last one counts, as with JSON.parse. In the target a patch that
 * names such a member changes its last occurrence and removes the others, so that every reader agrees on the result.
 */
import { LIMITS } from "../limits.ts";
import { assert } from "../lib/assert.ts";
import { ByteWriter } from "./byte-writer.ts";
import { OPENING_BRACE, skipSpace, skipValue, walkMembers } from "./json-cursor.ts";
import { decodeName } from "./json-names.ts";
import { validateJsonObject } from "./json-scanner.ts";

/** A value of a patch. Its bytes are views of the patch. */
export type PatchNode = {
  /** The key with its quotes as the patch spells it; empty for the patch itself. */
  readonly key: Uint8Array;
  /** The value as the patch spells it. */
  readonly value: Uint8Array;
  /** True for null: the member goes. */
  readonly removes: boolean;
  /** Members by decoded name, for an object. */
  readonly members: ReadonlyMap<string, PatchNode> | null;
  /** True when inserting the value means copying `value`: there is no null to strip in it. */
  readonly verbatim: boolean;
};

export type Patch = { readonly members: ReadonlyMap<string, PatchNode> };

const NO_KEY = new Uint8Array(0);
const LETTER_N = 0x6e;
const EMPTY_OBJECT = Uint8Array.of(0x7b, 0x7d);
const BRACE_OPEN = EMPTY_OBJECT.subarray(0, 1);
const BRACE_CLOSE = EMPTY_OBJECT.subarray(1);
const COMMA_TEXT = Uint8Array.of(0x2c);
const COLON_TEXT = Uint8Array.of(0x3a);

/** @throws {StoreError} `json_invalid`, `json_not_object`, `json_too_deep` */
export function parsePatch(patch: Uint8Array): Patch {
  validateJsonObject(patch, "the patch");
  const { members } = nodeAt(patch, skipSpace(patch, 0), NO_KEY, 1);
  assert(members !== null, "a validated patch is an object");
  return { members };
}

/**
 * The document after the patch.
 * @throws {StoreError} `json_invalid`, `json_not_object`, `json_too_deep` for a document or patch that is no JSON object
 */
export function mergeDocument(document: Uint8Array, patch: Uint8Array): Uint8Array {
  const { members } = parsePatch(patch);
  validateJsonObject(document, "the stored document");
  return mergeObjectText(document, members, patch.length);
}

/**
 * One value after the patch. Both are texts of single JSON values and known to be valid; a null target is a member
 * that is not there. A patch that is no object takes the target's place.
 */
export function mergeValue(target: Uint8Array | null, patch: Uint8Array): Uint8Array {
  return mergeNode(target, nodeAt(patch, skipSpace(patch, 0), NO_KEY, 1));
}

/** As `mergeValue`, for a value of a parsed patch. */
export function mergeNode(target: Uint8Array | null, node: PatchNode): Uint8Array {
  if (node.members !== null && target !== null && target[skipSpace(target, 0)] === OPENING_BRACE) {
    return mergeObjectText(target, node.members, node.value.length);
  }
  const out = new ByteWriter(node.value.length);
  writeInserted(out, node);
  return out.take();
}

function nodeAt(bytes: Uint8Array, at: number, key: Uint8Array, depth: number): PatchNode {
  if (bytes[at] !== OPENING_BRACE) {
    const value = bytes.subarray(at, skipValue(bytes, at));
    return { key, value, removes: bytes[at] === LETTER_N, members: null, verbatim: true };
  }
  assert(depth <= LIMITS.jsonDepthMax, "a patch is no deeper than JSON may be");
  const members = new Map<string, PatchNode>();
  let memberCount = 0;
  let verbatim = true;
  const closeAt = walkMembers(bytes, at, ({ keyAt, keyEnd, valueAt }) => {
    const node = nodeAt(bytes, valueAt, bytes.subarray(keyAt, keyEnd), depth + 1);
    members.set(decodeName(bytes.subarray(keyAt + 1, keyEnd - 1)), node);
    memberCount += 1;
    verbatim &&= node.verbatim && !node.removes;
    return valueAt + node.value.length;
  });
  verbatim &&= members.size === memberCount;
  return { key, value: bytes.subarray(at, closeAt + 1), removes: false, members, verbatim };
}

type PatchMembers = ReadonlyMap<string, PatchNode>;

/** Where a member that the patch names occurs last: which visit to the object around it saw it, as which member. */
type LastSeen = { visit: number; ordinal: number; visitInside: number };

function mergeObjectText(target: Uint8Array, members: PatchMembers, patchBytes: number): Uint8Array {
  const at = skipSpace(target, 0);
  const merge = new Merge(target, patchBytes);
  const { visit } = merge.find(at, members);
  merge.copy(0, at);
  const end = merge.write(at, members, visit);
  merge.copy(end, target.length);
  return merge.out.take();
}

/** Two passes over the target, each byte once: where named members occur last, then the text. */
class Merge {
  readonly out: ByteWriter;
  readonly #target: Uint8Array;
  readonly #lastSeen = new Map<PatchNode, LastSeen>();
  #visits = 0;

  constructor(target: Uint8Array, patchBytes: number) {
    this.#target = target;
    this.out = new ByteWriter(target.length + patchBytes);
  }

  copy(start: number, end: number): void {
    if (end > start) this.out.push(this.#target, start, end);
  }

  /** Notes where the named members of the object at `at` occur last. */
  find(at: number, members: PatchMembers): { readonly visit: number; readonly end: number } {
    this.#visits += 1;
    const visit = this.#visits;
    const target = this.#target;
    const closeAt = walkMembers(target, at, ({ ordinal, keyAt, keyEnd, valueAt }) => {
      const node = members.get(decodeName(target.subarray(keyAt + 1, keyEnd - 1)));
      if (node === undefined) return skipValue(target, valueAt);
      const descends = node.members !== null && target[valueAt] === OPENING_BRACE;
      const inside = descends ? this.find(valueAt, node.members) : { visit: 0, end: skipValue(target, valueAt) };
      this.#lastSeen.set(node, { visit, ordinal, visitInside: inside.visit });
      return inside.end;
    });
    return { visit, end: closeAt + 1 };
  }

  /** Writes the object at `at`, found by that visit, as the patch leaves it. @returns the offset after it in the target */
  write(at: number, members: PatchMembers, visit: number): number {
    const target = this.#target;
    let textFrom = at;
    let liveCount = 0;
    const closeAt = walkMembers(target, at, ({ ordinal, commaAt, keyAt, keyEnd, valueAt }) => {
      const node = members.get(decodeName(target.subarray(keyAt + 1, keyEnd - 1)));
      const seen = node === undefined ? undefined : this.#lastSeen.get(node);
      const removed = node !== undefined && (node.removes || seen?.ordinal !== ordinal);
      // A comma stands before every live member but the first.
      if (commaAt >= 0 && (removed || liveCount === 0)) {
        this.copy(textFrom, commaAt);
        textFrom = commaAt + 1;
      }
      if (!removed) liveCount += 1;
      if (node === undefined) return skipValue(target, valueAt);
      this.copy(textFrom, removed ? keyAt : valueAt);
      textFrom = removed ? skipValue(target, valueAt) : this.#writeValue(valueAt, node, seen?.visitInside ?? 0);
      return textFrom;
    });
    this.copy(textFrom, closeAt);
    for (const node of members.values()) {
      if (node.removes || this.#lastSeen.get(node)?.visit === visit) continue;
      if (liveCount > 0) this.out.push(COMMA_TEXT);
      writeMember(this.out, node);
      liveCount += 1;
    }
    this.copy(closeAt, closeAt + 1);
    return closeAt + 1;
  }

  #writeValue(valueAt: number, node: PatchNode, visitInside: number): number {
    if (node.members !== null && this.#target[valueAt] === OPENING_BRACE) {
      return this.write(valueAt, node.members, visitInside);
    }
    writeInserted(this.out, node);
    return skipValue(this.#target, valueAt);
  }
}

/** A value that meets nothing to merge with: as the patch spells it, without the members that are null. */
function writeInserted(out: ByteWriter, node: PatchNode): void {
  if (node.members === null || node.verbatim) return out.push(node.value);
  out.push(BRACE_OPEN);
  let first = true;
  for (const member of node.members.values()) {
    if (member.removes) continue;
    if (!first) out.push(COMMA_TEXT);
    writeMember(out, member);
    first = false;
  }
  out.push(BRACE_CLOSE);
}

function writeMember(out: ByteWriter, node: PatchNode): void {
  out.push(node.key);
  out.push(COLON_TEXT);
  writeInserted(out, node);
}

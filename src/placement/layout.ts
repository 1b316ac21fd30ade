/**
 * What a reader sees of a split document: the order in which stretches of the cold and the hot part follow each other.
 *
 * The stored cold bytes never change, so a member that a patch removed is skipped when reading: its key, its colon and
 * one comma. Which comma keeps the text valid for any set of removed members: leading ones, with no live member
 * before them, drop the comma after; all others drop the comma before. That leaves one comma fewer than live members.
 */
import { StoreError } from "../domain/errors.ts";
import type { HotField, HybridLayout } from "../domain/manifest.ts";
import { assert } from "../lib/assert.ts";

/** A stretch of the readable document: bytes [start, end) of the cold or hot part, or bytes that are stored in neither. */
export type Piece =
  | { readonly source: "cold" | "hot"; readonly start: number; readonly end: number }
  | { readonly source: "literal"; readonly bytes: Uint8Array };

const encoder = new TextEncoder();

/**
 * The pieces of the document in order, none empty: a few per table entry.
 * @throws {StoreError} `object_damaged` the table does not fit cold bytes of that size
 */
export function piecesOf(layout: HybridLayout, coldBytes: number): Piece[] {
  const list = new PieceList();
  const leadingRemoved = countLeadingRemoved(layout.fields);
  const appended: { readonly field: HotField; readonly hotAt: number }[] = [];
  let hotAt = 0;
  for (const field of layout.fields) {
    if (isAppended(field)) {
      appended.push({ field, hotAt });
    } else if (isRemoved(field)) {
      const leads = field.ordinal < leadingRemoved;
      if (!leads) list.skipCold(field.commaBefore, field.commaBefore + 1);
      list.skipCold(field.keyAt, field.valueAt);
      if (leads && field.commaAfter >= 0) list.skipCold(field.commaAfter, field.commaAfter + 1);
    } else {
      list.coldUpTo(field.valueAt);
      list.hot(hotAt, hotAt + field.valueBytes);
    }
    hotAt += Math.max(0, field.valueBytes);
  }

  if (appended.length > 0) {
    list.coldUpTo(layout.closeAt);
    let hasMember = layout.memberCount > leadingRemoved;
    for (const { field, hotAt: start } of appended) {
      list.literal(`${hasMember ? "," : ""}${JSON.stringify(field.name)}:`);
      list.hot(start, start + field.valueBytes);
      hasMember = true;
    }
  }
  list.coldUpTo(coldBytes);
  return list.pieces;
}

/** Put there by a patch: not in the cold bytes, emitted before the closing brace. */
export function isAppended(field: HotField): boolean {
  return field.ordinal === -1;
}

/** Taken away by a patch: its key is in the cold bytes and not in the document. */
export function isRemoved(field: HotField): boolean {
  return field.valueBytes === -1;
}

/** The live hot fields with the bytes of their values. */
export function hotValuesOf(layout: HybridLayout, hot: Uint8Array): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  let at = 0;
  for (const field of layout.fields) {
    if (isRemoved(field)) continue;
    if (field.name !== "") values.set(field.name, hot.subarray(at, at + field.valueBytes));
    at += field.valueBytes;
  }
  if (at !== hot.length) throw damaged(`its table accounts for ${at} hot bytes, ${hot.length} are there`);
  return values;
}

export function pieceBytes(piece: Piece): number {
  return piece.source === "literal" ? piece.bytes.length : piece.end - piece.start;
}

/**
 * Bytes of the readable document.
 * @throws {StoreError} `object_damaged` the table does not fit parts of these sizes
 */
export function documentBytes(layout: HybridLayout, coldBytes: number, hotBytes: number): number {
  const tableBytes = layout.fields.reduce((sum, field) => sum + Math.max(0, field.valueBytes), 0);
  if (tableBytes !== hotBytes) throw damaged(`its table accounts for ${tableBytes} hot bytes, ${hotBytes} are there`);
  return piecesOf(layout, coldBytes).reduce((sum, piece) => sum + pieceBytes(piece), 0);
}

/** The pieces of bytes [start, end) of the document, cut at both ends. */
export function restrictPieces(pieces: readonly Piece[], start: number, end: number): Piece[] {
  assert(start >= 0 && start <= end, "a range does not run backwards");
  const restricted: Piece[] = [];
  let at = 0;
  for (const piece of pieces) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, pieceBytes(piece));
    if (from < to) restricted.push(cutPiece(piece, from, to));
    at += pieceBytes(piece);
  }
  return restricted;
}

/** Puts a whole document together from parts in memory. */
export function joinPieces(pieces: readonly Piece[], cold: Uint8Array, hot: Uint8Array): Uint8Array {
  const parts = pieces.map((piece) =>
    piece.source === "literal" ? piece.bytes : (piece.source === "cold" ? cold : hot).subarray(piece.start, piece.end),
  );
  return Buffer.concat(parts);
}

function cutPiece(piece: Piece, from: number, to: number): Piece {
  return piece.source === "literal"
    ? { source: "literal", bytes: piece.bytes.subarray(from, to) }
    : { source: piece.source, start: piece.start + from, end: piece.start + to };
}

/** The table is in the order of the document, so removed members lead as long as their ordinals count up from 0. */
function countLeadingRemoved(fields: readonly HotField[]): number {
  let count = 0;
  while (count < fields.length) {
    const field = fields[count] as HotField;
    if (field.ordinal !== count || !isRemoved(field)) break;
    count += 1;
  }
  return count;
}

class PieceList {
  readonly pieces: Piece[] = [];
  #coldAt = 0;

  coldUpTo(end: number): void {
    if (end < this.#coldAt) throw damaged(`its table names cold byte ${end} after ${this.#coldAt}`);
    if (end > this.#coldAt) this.pieces.push({ source: "cold", start: this.#coldAt, end });
    this.#coldAt = end;
  }

  skipCold(start: number, end: number): void {
    this.coldUpTo(start);
    this.#coldAt = end;
  }

  hot(start: number, end: number): void {
    if (end > start) this.pieces.push({ source: "hot", start, end });
  }

  literal(text: string): void {
    this.pieces.push({ source: "literal", bytes: encoder.encode(text) });
  }
}

function damaged(reason: string): StoreError {
  return new StoreError("object_damaged", `Cannot put the document together: ${reason}`);
}

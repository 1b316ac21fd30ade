import { asBuffer } from "../lib/bytes.ts";

/** Finds which of a set of names a raw JSON key (the bytes between its quotes) spells: its index, or -1. */
export type NameMatcher = (raw: Uint8Array) => number;

const BACKSLASH = 0x5c;
const encoder = new TextEncoder();

/**
 * Keys are matched by what they say, so `"device\u005fid"` is `device_id`. Plain keys, nearly all, are compared byte by
 * byte with the names of their length and make no garbage.
 */
export function createNameMatcher(names: readonly string[]): NameMatcher {
  const byText = new Map(names.map((name, index) => [name, index]));
  const byLength = new Map<number, { readonly bytes: Uint8Array; readonly index: number }[]>();
  let bytesMax = 0;
  for (const [name, index] of byText) {
    const bytes = encoder.encode(name);
    const peers = byLength.get(bytes.length);
    if (peers === undefined) byLength.set(bytes.length, [{ bytes, index }]);
    else peers.push({ bytes, index });
    bytesMax = Math.max(bytesMax, bytes.length);
  }
  // An escape spends at most six bytes on one byte of the name.
  const rawBytesMax = bytesMax * 6;

  return (raw) => {
    const peers = byLength.get(raw.length);
    if (peers !== undefined) {
      for (const peer of peers) if (sameBytes(peer.bytes, raw)) return peer.index;
    }
    if (raw.length > rawBytesMax || raw.indexOf(BACKSLASH) === -1) return -1;
    return byText.get(decodeName(raw)) ?? -1;
  };
}

/** The name that the bytes between the quotes of a valid JSON string spell. */
export function decodeName(raw: Uint8Array): string {
  // Copied out of shared memory, where uploads live: not every text decoder reads that.
  const own = raw.buffer instanceof ArrayBuffer ? raw : new Uint8Array(raw);
  const text = asBuffer(own).toString("utf8");
  return raw.indexOf(BACKSLASH) === -1 ? text : (JSON.parse(`"${text}"`) as string);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

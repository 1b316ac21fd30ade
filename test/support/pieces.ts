import { createHash } from "node:crypto";

export const MIB = 1_024 * 1_024;

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** In pieces of odd sizes, as sources give them; told of every byte given. */
export async function* pieces(
  bytes: Uint8Array,
  pieceBytes = 70_001,
  onGiven: (givenBytes: number) => unknown = () => {},
) {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const given = onGiven(at);
    if (given instanceof Promise) await given;
    yield bytes.subarray(at, at + pieceBytes);
  }
}

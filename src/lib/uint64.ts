/** Whole numbers of 8 bytes, big-endian, so that the order of the bytes is the order of the numbers. */

const HIGH = 0x1_0000_0000;

/** Writes `value`, 0…2^53 - 1, at `offset`. */
export function writeUint64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32BE(Math.floor(value / HIGH), offset);
  target.writeUInt32BE(value % HIGH, offset + 4);
}

export function readUint64(source: Buffer, offset: number): number {
  return source.readUInt32BE(offset) * HIGH + source.readUInt32BE(offset + 4);
}

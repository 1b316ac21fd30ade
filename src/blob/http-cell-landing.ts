import type { Cell } from "../domain/blob.ts";
import type { BlobId } from "../domain/ids.ts";
import { LIMITS } from "../limits.ts";
import { blobDamaged } from "./blob-errors.ts";
import { malformedMessage } from "./wire-bytes.ts";
import type { Frame } from "./wire-frame.ts";
import { decodeCellMeta } from "./wire-messages.ts";

/** Where the cells of a large read go. */
export class CellLanding {
  readonly cells: Cell[] = [];
  readonly #id: BlobId;
  readonly #first: number;
  readonly #into: Uint8Array | undefined;
  #used = 0;
  #neededBytes = 0;

  constructor(id: BlobId, first: number, into: Uint8Array | undefined) {
    this.#id = id;
    this.#first = first;
    this.#into = into;
  }

  place(bytes: number): Uint8Array {
    if (bytes > LIMITS.cellBytesMax) throw malformedMessage("a cell is larger than any cell may be");
    if (this.#into === undefined) return Buffer.allocUnsafeSlow(bytes);
    this.#neededBytes = Math.max(this.#neededBytes, this.#used + bytes);
    if (this.#neededBytes > this.#into.length) return Buffer.allocUnsafeSlow(bytes);
    return this.#into.subarray(this.#used, this.#used + bytes);
  }

  /** Asked between requests: it is the blob that is wrong, not its way here. @throws {StoreError} `blob_damaged` */
  assertFitted(): void {
    if (this.#into !== undefined) assertFits(this.#id, this.#neededBytes, this.#into);
  }

  take({ meta, payload }: Frame): void {
    const { index, checksum } = decodeCellMeta(meta);
    if (index !== this.#first + this.cells.length) throw malformedMessage("cells come out of order");
    this.cells.push({ index, payload, checksum });
    this.#used += payload.length;
  }
}

/** Small cells of a batch, in memory of their own or where the caller wants them. */
export function takeCells(id: BlobId, cells: readonly Cell[], first: number, into: Uint8Array | undefined): Cell[] {
  let used = 0;
  return cells.map(({ index, payload, checksum }, offset) => {
    if (index !== first + offset) throw malformedMessage("cells come out of order");
    if (into === undefined) return { index, payload: Buffer.from(payload), checksum };
    assertFits(id, used + payload.length, into);
    const target = into.subarray(used, used + payload.length);
    target.set(payload);
    used += payload.length;
    return { index, payload: target, checksum };
  });
}

function assertFits(id: BlobId, bytes: number, into: Uint8Array): void {
  if (bytes > into.length) throw blobDamaged(id, `its cells have ${bytes} bytes where at most ${into.length} belong`);
}

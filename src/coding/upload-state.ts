import { createHash } from "node:crypto";
import { assert } from "../lib/assert.ts";
import { createJsonSplitter } from "../placement/json-split.ts";
import type { UploadDigests, UploadOptions } from "./coder.ts";

/**
 * What one upload has seen so far: the digests of its bytes and where the JSON scanner stands. Pure computing on the
 * calling thread; `coding-session.ts` decides when.
 */
export class UploadState {
  readonly #whole = createHash("sha256");
  readonly #cold = createHash("sha256");
  readonly #md5;
  readonly #splitter;
  #finished = false;

  constructor(options: Pick<UploadOptions, "split" | "md5">) {
    this.#md5 = options.md5 ? createHash("md5") : null;
    this.#splitter = options.split === null ? null : createJsonSplitter(options.split);
  }

  get splits(): boolean {
    return this.#splitter !== null;
  }

  /**
   * Adds the next bytes of the body. A splitting upload takes the hot values out of `bytes`, moving the rest down.
   * Answers how many bytes of content are left at its start.
   * @throws {StoreError} of a strict split
   */
  absorb(bytes: Uint8Array): number {
    assert(!this.#finished, "no bytes are absorbed after finish");
    // The whole is digested before the splitter moves anything.
    this.#whole.update(bytes);
    this.#md5?.update(bytes);
    if (this.#splitter === null) return bytes.length;
    const coldBytes = this.#splitter.push(bytes);
    this.#cold.update(bytes.subarray(0, coldBytes));
    return coldBytes;
  }

  /** Ends the body. @throws {StoreError} of a strict split */
  finish(): UploadDigests {
    assert(!this.#finished, "an upload is finished once");
    this.#finished = true;
    const split = this.#splitter?.finish() ?? null;
    return {
      sha256: this.#whole.digest("hex"),
      md5: this.#md5?.digest("hex") ?? null,
      split: split === null ? null : { coldSha256: this.#cold.digest("hex"), hot: split.hot, layout: split.layout },
    };
  }
}

import type { Clock } from "../lib/clock.ts";
import { KIB } from "../lib/bytes.ts";
import type { Logger } from "../lib/logger.ts";
import type { CellChecksum } from "../domain/blob.ts";
import { dataShards } from "../domain/geometry.ts";
import { CallOrder } from "./call-order.ts";
import type {
  Coder,
  CodingUpload,
  DocumentTask,
  EncodeRequest,
  Stripe,
  UploadDigests,
  UploadOptions,
} from "./coder.ts";
import { createInlineCoder } from "./inline-coder.ts";
import { createPiscinaCoder } from "./piscina-coder.ts";
import { createReedSolomon, nativeAddonAvailable } from "./reed-solomon.ts";
import { addSpent, noneSpent } from "./spent.ts";

export type CoderOptions = {
  /** Coding threads; with 0 all work is done in the calling thread. */
  readonly threads: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Work up to this size is done in the calling thread: a trip to another costs more. */
  readonly inlineBytesMax?: number;
  /** Codes in TypeScript even where the native addon is installed. */
  readonly forceFallback?: boolean;
};

const INLINE_BYTES_MAX = 64 * KIB;

/** The coder of a running store: small work in the calling thread, large work in threads of its own. */
export function createCoder(options: CoderOptions): Coder {
  const { clock, logger, threads, forceFallback = false, inlineBytesMax = INLINE_BYTES_MAX } = options;
  if (!forceFallback && !nativeAddonAvailable()) {
    logger.warn(
      { addon: "@ronomon/reed-solomon" },
      "The native Reed-Solomon addon is not installed: erasure coding runs in TypeScript, with the same results but slower",
    );
  }
  const inline = createInlineCoder({ reedSolomon: createReedSolomon({ forceFallback }), clock });
  if (threads === 0) return inline;
  const threaded = createPiscinaCoder({ threads, clock, logger, forceFallback });
  return createAdaptiveCoder(inline, threaded, inlineBytesMax);
}

/** Gives each piece of work to `inline` or to `threaded` by its size. Closing it closes both. */
export function createAdaptiveCoder(inline: Coder, threaded: Coder, inlineBytesMax: number): Coder {
  const coderFor = (bytes: number): Coder => (bytes <= inlineBytesMax ? inline : threaded);
  return {
    openUpload: async (options) =>
      new AdaptiveUpload(options, await inline.openUpload(options), threaded, inlineBytesMax),
    verifyAndDecode: (stripe, request) =>
      coderFor(request.cells.length * request.cellBytes).verifyAndDecode(stripe, request),
    transform: (task) => coderFor(documentBytes(task)).transform(task),
    spent() {
      const total = noneSpent();
      addSpent(total, inline.spent());
      addSpent(total, threaded.spent());
      return total;
    },
    async close() {
      await inline.close();
      await threaded.close();
    },
  };
}

/**
 * An upload whose size is not known when it opens. It starts inline and moves to a thread at the first call that is too
 * much. Digests cannot move, so what was absorbed until then, at most `inlineBytesMax`, is kept and absorbed again.
 */
class AdaptiveUpload implements CodingUpload {
  readonly #options: UploadOptions;
  readonly #threaded: Coder;
  readonly #inlineBytesMax: number;
  readonly #order = new CallOrder();
  readonly #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #current: CodingUpload;
  #moved = false;

  constructor(options: UploadOptions, inline: CodingUpload, threaded: Coder, inlineBytesMax: number) {
    this.#options = options;
    this.#current = inline;
    this.#threaded = threaded;
    this.#inlineBytesMax = inlineBytesMax;
  }

  absorb(stripe: Stripe, from: number, to: number): Promise<number> {
    return this.#order.run(async () => {
      await this.#settle(stripe.bytes.subarray(from, to), 0);
      return await this.#current.absorb(stripe, from, to);
    });
  }

  encode(stripe: Stripe, request: EncodeRequest): Promise<CellChecksum[]> {
    return this.#order.run(async () => {
      await this.#settle(NO_BYTES, this.#workBytes(request));
      return await this.#current.encode(stripe, request);
    });
  }

  absorbAndEncode(stripe: Stripe, from: number, to: number, request: EncodeRequest): Promise<CellChecksum[]> {
    return this.#order.run(async () => {
      await this.#settle(stripe.bytes.subarray(from, to), this.#workBytes(request));
      return await this.#current.absorbAndEncode(stripe, from, to, request);
    });
  }

  finish(): Promise<UploadDigests> {
    return this.#order.run(() => this.#current.finish());
  }

  async close(): Promise<void> {
    await this.#order.close();
    await this.#current.close();
  }

  #workBytes(request: EncodeRequest): number {
    return dataShards(this.#options.redundancy) * request.cellBytes;
  }

  /** Decides where the next call runs, before it changes `absorbed` in place. */
  async #settle(absorbed: Uint8Array, encodedBytes: number): Promise<void> {
    if (this.#moved) return;
    if (Math.max(this.#keptBytes + absorbed.length, encodedBytes) > this.#inlineBytesMax) return await this.#move();
    if (absorbed.length === 0) return;
    this.#kept.push(new Uint8Array(absorbed));
    this.#keptBytes += absorbed.length;
  }

  async #move(): Promise<void> {
    const inline = this.#current;
    this.#current = await this.#threaded.openUpload(this.#options);
    this.#moved = true;
    await inline.close();
    if (this.#keptBytes === 0) return;
    const memory = new SharedArrayBuffer(this.#keptBytes);
    const bytes = new Uint8Array(memory);
    let end = 0;
    for (const part of this.#kept.splice(0)) {
      bytes.set(part, end);
      end += part.length;
    }
    await this.#current.absorb({ memory, bytes }, 0, end);
  }
}

const NO_BYTES = new Uint8Array(0);

function documentBytes(task: DocumentTask): number {
  return task.document.length + (task.kind === "merge" ? task.patch.length : 0);
}

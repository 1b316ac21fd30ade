import type { Msg } from "@nats-io/transport-node";
import { HEADER, NOT_MODIFIED } from "../nats/object-protocol.ts";
import { addressHeaders, conditionHeaders, type BucketOptions, type WriteConditions } from "./address.ts";
import { Download, type DownloadPlan } from "./download.ts";
import type { GatewayLink } from "./gateway-link.ts";
import { KintsugiError } from "./kintsugi-error.ts";
import { objectInfoOf, type ObjectInfo } from "./object-info.ts";

/** `first` and `last` are counted from 0 and belong to it. */
export type ByteRange = { readonly first: number; readonly last?: number } | { readonly suffixBytes: number };

export type GetOptions = BucketOptions &
  WriteConditions & {
    readonly range?: ByteRange;
  };

export class KintsugiObject {
  readonly info: ObjectInfo;
  /** Which bytes these are, [start, end); null for all. */
  readonly range: { readonly start: number; readonly end: number } | null;
  /** The object still has the tag given as `ifNoneMatch`, so no bytes came. */
  readonly notModified: boolean;
  readonly #chunks: Download | null;
  #used = false;

  constructor(info: ObjectInfo, range: { start: number; end: number } | null, chunks: Download | null) {
    this.info = info;
    this.range = range;
    this.notModified = chunks === null;
    this.#chunks = chunks;
  }

  /** Bytes that will come. */
  get sizeBytes(): number {
    if (this.#chunks === null) return 0;
    return this.range === null ? this.info.sizeBytes : this.range.end - this.range.start;
  }

  /**
   * The bytes, once. They come as fast as they are taken. To be read to the end or given up (`break`, `cancel`): until
   * then a gateway waits. A whole object is verified against its SHA-256 where the store knows that, behind the last byte.
   */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, void> {
    if (this.#used) throw new KintsugiError("body_incomplete", "The object was read before: get it again");
    this.#used = true;
    return this.#chunks ?? nothing();
  }

  /** The same as a web stream. */
  get body(): ReadableStream<Uint8Array> {
    const chunks = this[Symbol.asyncIterator]();
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const next = await chunks.next();
          if (next.done === true) controller.close();
          else controller.enqueue(next.value);
        },
        async cancel() {
          await chunks.return?.();
        },
      },
      { highWaterMark: 0 },
    );
  }

  async bytes(): Promise<Uint8Array> {
    const bytes = new Uint8Array(this.sizeBytes);
    let filled = 0;
    for await (const chunk of this) {
      bytes.set(chunk, filled);
      filled += chunk.length;
    }
    return bytes;
  }

  async text(): Promise<string> {
    return new TextDecoder().decode(await this.bytes());
  }

  async json<T = unknown>(): Promise<T> {
    return JSON.parse(await this.text()) as T;
  }

  /** Tells the gateway that nobody will read. */
  async cancel(): Promise<void> {
    this.#used = true;
    await this.#chunks?.return();
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void> {}

/** Null where there is no such object. @throws {KintsugiError} */
export async function getObject(link: GatewayLink, key: string, options: GetOptions): Promise<KintsugiObject | null> {
  const address = addressHeaders(key, options);
  const headers = [...address, ...conditionHeaders(options), ...rangeHeaders(options.range)];
  try {
    const { answer, body } = await Download.open(link, headers, (message) => planOf(message, address));
    return new KintsugiObject(objectInfoOf(answer), rangeOf(answer), body);
  } catch (cause) {
    if (cause instanceof KintsugiError && cause.code === "object_not_found") return null;
    throw cause;
  }
}

function planOf(answer: Msg, address: readonly [string, string][]): DownloadPlan | null {
  if (answer.headers?.get(HEADER.outcome) === NOT_MODIFIED) return null;
  const info = objectInfoOf(answer);
  const range = rangeOf(answer);
  return {
    headers: address,
    etag: info.etag,
    start: range?.start ?? 0,
    end: range?.end ?? info.sizeBytes,
    sha256: range === null ? info.sha256 : null,
  };
}

function rangeOf(answer: Msg): { start: number; end: number } | null {
  const match = /^(\d+)-(\d+)\/\d+$/.exec(answer.headers?.get(HEADER.range) ?? "");
  return match === null ? null : { start: Number(match[1]), end: Number(match[2]) + 1 };
}

function rangeHeaders(range: ByteRange | undefined): [string, string][] {
  if (range === undefined) return [];
  const text = "suffixBytes" in range ? `-${range.suffixBytes}` : `${range.first}-${range.last ?? ""}`;
  return [[HEADER.range, text]];
}

import { KintsugiError } from "./kintsugi-error.ts";

/** What can be stored. Of these only bytes, text, a Blob and a function can be read again when a transfer has to start over. */
export type PutBody =
  | Uint8Array
  | string
  | Blob
  | AsyncIterable<Uint8Array>
  | ReadableStream<Uint8Array>
  | (() => AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>);

/** A body on its way out. */
export type PutSource = {
  /** Null: only its end will tell. */
  readonly sizeBytes: number | null;
  readonly repeatable: boolean;
  /** All of it, where it is in memory anyway. */
  readonly bytes: Uint8Array | null;
  /** From the start. @throws {KintsugiError} `body_incomplete` when that was possible only once */
  open(): AsyncIterator<Uint8Array>;
};

export function sourceOf(body: PutBody, announcedBytes: number | null): PutSource {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  if (bytes instanceof Uint8Array) {
    return { sizeBytes: bytes.length, repeatable: true, bytes, open: () => once(bytes) };
  }
  if (bytes instanceof Blob) {
    return { sizeBytes: bytes.size, repeatable: true, bytes: null, open: () => iterate(bytes.stream()) };
  }
  if (typeof bytes === "function") {
    return { sizeBytes: announcedBytes, repeatable: true, bytes: null, open: () => iterate(bytes()) };
  }
  let opened = false;
  return {
    sizeBytes: announcedBytes,
    repeatable: false,
    bytes: null,
    open() {
      if (opened) throw new KintsugiError("body_incomplete", "The body was read before and cannot be read again");
      opened = true;
      return iterate(bytes);
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function iterate(chunks: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>): AsyncIterator<Uint8Array> {
  if (Symbol.asyncIterator in chunks) return (chunks as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  return readAll(chunks);
}

async function* readAll(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const next = await reader.read();
      if (next.done) {
        ended = true;
        return;
      }
      yield next.value;
    }
  } finally {
    if (!ended) await reader.cancel();
  }
}

/** All of a body when that is at most `bytesMax`, else everything as chunks. */
export type Beginning = { readonly whole: Uint8Array } | { readonly chunks: AsyncIterator<Uint8Array> };

export async function readBeginning(source: PutSource, bytesMax: number): Promise<Beginning> {
  if (source.bytes !== null && source.bytes.length <= bytesMax) return { whole: source.bytes };
  const chunks = source.open();
  if (source.sizeBytes !== null && source.sizeBytes > bytesMax) return { chunks };
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const next = await chunks.next();
    if (next.done === true) return { whole: parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts) };
    // The source may use the memory again for what it gives next.
    parts.push(length + next.value.length > bytesMax ? next.value : Uint8Array.from(next.value));
    length += next.value.length;
    if (length > bytesMax) return { chunks: continued(parts, chunks) };
  }
}

async function* continued(parts: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* parts;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

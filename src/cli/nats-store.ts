import type { ConnectOptions, KintsugiClient } from "../client/client.ts";
import { connectKintsugi } from "../client/client.ts";
import type { ByteRange } from "../client/get.ts";
import { KintsugiError } from "../client/kintsugi-error.ts";
import type { PutOptions } from "../client/put.ts";
import { CliError, EXIT, exitCodeOf, usageError } from "./exit.ts";
import type { CliIo } from "./io.ts";
import type { StoreClient } from "./store-client.ts";

/** Where a store is reached over NATS. */
export type NatsAddress = {
  /** `nats://[user:password@|token@]host:port`, several separated by commas. */
  readonly url: string;
  readonly credsFile: string | null;
  readonly tlsCaFile: string | null;
};

/** How long the first connection, or a call, may take. */
const TIMEOUT_MS = 30_000;

/** Ended by the signal too. @throws {CliError} `usage`, `nats_unavailable` */
export async function connectNats(io: CliIo, address: NatsAddress): Promise<KintsugiClient> {
  const options = { ...parseNatsUrl(address.url), timeoutMs: TIMEOUT_MS, name: "kintsugi command line" };
  const client = await explained(
    io,
    connectKintsugi({
      ...options,
      ...(address.credsFile === null ? {} : { credsFile: address.credsFile }),
      ...(address.tlsCaFile === null ? {} : { tlsCaFile: address.tlsCaFile }),
      clock: io.clock,
    }),
  );
  const stop = () => void client.close();
  if (io.signal.aborted) stop();
  io.signal.addEventListener("abort", stop, { once: true });
  return client;
}

/** @throws {CliError} `usage` */
export function parseNatsUrl(text: string): Pick<ConnectOptions, "servers" | "user" | "password" | "token" | "tls"> {
  const urls = text.split(",").map((part) => {
    const url = URL.parse(part.includes("://") ? part : `nats://${part}`);
    if (url === null || (url.protocol !== "nats:" && url.protocol !== "tls:") || url.hostname === "") {
      // What stands there may be a password: it is not repeated.
      throw usageError(
        "That is no address of NATS: give one such as nats://127.0.0.1:4222, several with commas between",
      );
    }
    return url;
  });
  const servers = urls.map(({ hostname, port }) => `${hostname}:${port === "" ? "4222" : port}`);
  const { username, password } = urls.find((url) => url.username !== "") ?? { username: "", password: "" };
  const tls = urls.some((url) => url.protocol === "tls:") ? { tls: true } : {};
  if (username === "") return { servers, ...tls };
  if (password === "") return { servers, token: decodeURIComponent(username), ...tls };
  return { servers, user: decodeURIComponent(username), password: decodeURIComponent(password), ...tls };
}

/** A store reached over NATS. Owns `client`. */
export function natsStoreOf(io: CliIo, client: KintsugiClient): StoreClient {
  const within = <T>(work: Promise<T>) => explained(io, work);
  return {
    async put(key, body, options) {
      const { bucket, contentType, userMetadata, ifMatch, ifNoneMatch, strategy, consistency } = options;
      const details: PutOptions = {
        ...inBucket(bucket),
        ...{ contentType, userMetadata },
        ...(strategy === null ? {} : { strategy: strategy as NonNullable<PutOptions["strategy"]> }),
        ...consistencyOf(consistency),
        ...(ifMatch === null ? {} : { ifMatch }),
        ...(ifNoneMatch === null ? {} : { ifNoneMatch }),
        ...(body.sizeBytes === null ? {} : { sizeBytes: body.sizeBytes }),
      };
      return await within(client.put(key, body.repeatable ? () => body.open() : body.open(), details));
    },
    async get(key, { bucket, range, fields }) {
      if (fields !== null) {
        const found = (await within(client.fields(key, fields, inBucket(bucket)))) ?? missing();
        return { sizeBytes: found.bytes.length, sha256: null, chunks: oneChunk(found.bytes) };
      }
      const options = { ...inBucket(bucket), ...(range === null ? {} : { range: byteRange(range) }) };
      const found = (await within(client.get(key, options))) ?? missing();
      const sha256 = found.range === null ? found.info.sha256 : null;
      return { sizeBytes: found.sizeBytes, sha256, chunks: explainedChunks(io, found) };
    },
    describe: async (key, bucket) => (await within(client.head(key, inBucket(bucket)))) ?? missing(),
    async list({ bucket, prefix, delimiter, after, limit }) {
      const pages = client.list({
        ...inBucket(bucket),
        ...{ prefix: prefix ?? "", delimiter: delimiter ?? "", after: after ?? "", pageLimit: limit },
      });
      const page = await within(pages.next());
      return page.done === true ? { objects: [], commonPrefixes: [], next: null } : page.value;
    },
    async remove(key, bucket) {
      if (!(await within(client.delete(key, inBucket(bucket))))) missing();
    },
    undelete: (key, bucket) => within(client.undelete(key, inBucket(bucket))),
    patch: (key, patch, { bucket, consistency, ifMatch }) =>
      within(
        client.patch(key, patch, {
          ...inBucket(bucket),
          ...consistencyOf(consistency),
          ...(ifMatch === null ? {} : { ifMatch }),
        }),
      ),
    status: () => Promise.reject(usageError("status is not told over NATS: ask a gateway's HTTP address with --url")),
    close: () => client.close(),
  };
}

function inBucket(bucket: string | null): { bucket?: string } {
  return bucket === null ? {} : { bucket };
}

function consistencyOf(consistency: string | null): Pick<PutOptions, "consistency"> {
  return consistency === null ? {} : { consistency: consistency as NonNullable<PutOptions["consistency"]> };
}

function byteRange(text: string): ByteRange {
  const [first = "", last = ""] = text.split("-");
  if (first === "") return { suffixBytes: Number(last) };
  return last === "" ? { first: Number(first) } : { first: Number(first), last: Number(last) };
}

function missing(): never {
  throw new CliError(EXIT.notFound, "object_not_found", "There is no object of this name");
}

async function* oneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* explainedChunks(io: CliIo, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (cause) {
    throw explain(io, cause);
  }
}

async function explained<T>(io: CliIo, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw explain(io, cause);
  }
}

/** Failures in words of this program; errors of a body's own source pass through. */
export function explain(io: CliIo, cause: unknown): unknown {
  if (io.signal.aborted) return new CliError(EXIT.interrupted, "interrupted", "Stopped at your request");
  if (!(cause instanceof KintsugiError)) return cause;
  return new CliError(exitCodeOf(cause.code, 0), cause.code, cause.message, cause.requestId);
}

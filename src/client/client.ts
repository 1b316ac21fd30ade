/** The client library: objects and their changes over NATS. See docs/client.md. */
import type { ConnectionOptions } from "@nats-io/transport-node";
import type { Receipt } from "../domain/receipt.ts";
import { systemClock, type Clock } from "../lib/clock.ts";
import { systemRandom, type Random } from "../lib/random.ts";
import { encodeHeaderText, HEADER } from "../nats/object-protocol.ts";
import { connectionOptionsOf } from "../nats/nats-link.ts";
import {
  addressHeaders,
  bucketHeaders,
  conditionHeaders,
  type BucketOptions,
  type WriteConditions,
} from "./address.ts";
import { callGateway } from "./call.ts";
import { openLink, type GatewayLink } from "./gateway-link.ts";
import { getObject, type GetOptions, type KintsugiObject } from "./get.ts";
import { asKintsugiError, KintsugiError } from "./kintsugi-error.ts";
import { objectInfoOf, type ObjectInfo } from "./object-info.ts";
import type { PutBody } from "./put-source.ts";
import { putObject, type PutOptions } from "./put.ts";
import { watchEvents, type WatchEvent, type WatchOptions } from "./watch.ts";

export type ConnectOptions = {
  /** `host:port` or `nats://host:port`. */
  readonly servers: string | readonly string[];
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
  /** Paths of files. */
  readonly credsFile?: string;
  readonly tlsCaFile?: string;
  readonly tlsCertFile?: string;
  readonly tlsKeyFile?: string;
  /** Refuse a server that does not encrypt; one that asks for encryption gets it anyway. */
  readonly tls?: boolean;
  /** How long a call may take, and a transfer may make no progress; 30 s unless given. */
  readonly timeoutMs?: number;
  /** Shown in the servers' lists of connections. */
  readonly name?: string;
  readonly clock?: Clock;
  readonly random?: Random;
};

/** One line of a listing. */
export type ListEntry = {
  readonly key: string;
  readonly version: string;
  readonly etag: string;
  readonly sizeBytes: number;
  readonly sha256: string | null;
  readonly contentType: string;
  readonly strategy: string;
  /** ISO 8601. */
  readonly modifiedAt: string;
};

export type ListOptions = BucketOptions & {
  readonly prefix?: string;
  /** Folds keys that share what follows the prefix up to this text into one entry of `commonPrefixes`. */
  readonly delimiter?: string;
  /** Starts behind this key or common prefix. */
  readonly after?: string;
  /** Entries of a page, at most 1,000; a page may have fewer. */
  readonly pageLimit?: number;
};

export type ListPage = {
  /** In the byte order of their keys. */
  readonly objects: readonly ListEntry[];
  readonly commonPrefixes: readonly string[];
  /** Where the next page starts, for `after`; null at the end. */
  readonly next: string | null;
};

/** Everything the store knows of an object, the nodes that hold it included. */
export type ObjectDetails = ListEntry & {
  readonly bucket: string;
  readonly revision: number;
  readonly dirty: boolean;
  readonly userMetadata: Readonly<Record<string, string>>;
  readonly placement: unknown;
};

export type PatchOptions = BucketOptions & WriteConditions & { readonly consistency?: PutOptions["consistency"] };

export type ObjectFields = {
  readonly info: ObjectInfo;
  /** True when no node was read. */
  readonly fromHotPart: boolean;
  /** A JSON object, each value byte for byte as it was stored. */
  readonly bytes: Uint8Array;
};

export type KintsugiClient = AsyncDisposable & {
  put(key: string, body: PutBody, options?: PutOptions): Promise<Receipt>;
  /** Null where there is no such object. */
  get(key: string, options?: GetOptions): Promise<KintsugiObject | null>;
  head(key: string, options?: BucketOptions): Promise<ObjectDetails | null>;
  /** False where there was no such object. */
  delete(key: string, options?: BucketOptions & WriteConditions): Promise<boolean>;
  /** Brings a deleted object back as a new version, for as long as the store keeps its content. */
  undelete(key: string, options?: BucketOptions & WriteConditions): Promise<Receipt>;
  /** Page after page, each asked for when the one before was taken. */
  list(options?: ListOptions): AsyncGenerator<ListPage, void, void>;
  /** A JSON merge patch: bytes and text are sent as they are, anything else as JSON. */
  patch(key: string, patch: Uint8Array | string | object, options?: PatchOptions): Promise<Receipt>;
  fields(key: string, names: readonly string[], options?: BucketOptions): Promise<ObjectFields | null>;
  watch(options?: WatchOptions): AsyncGenerator<WatchEvent, void, void>;
  close(): Promise<void>;
};

const TIMEOUT_MS = 30_000;

/** @throws {KintsugiError} `nats_unavailable` (retriable), `config_invalid` for a file that cannot be read */
export async function connectKintsugi(options: ConnectOptions): Promise<KintsugiClient> {
  const { clock = systemClock, random = systemRandom, timeoutMs = TIMEOUT_MS } = options;
  const link = await openLink(natsOptionsOf(options), { clock, random, timeoutMs });
  return clientOf(link);
}

function natsOptionsOf(options: ConnectOptions): ConnectionOptions {
  const { servers, name = "kintsugi client" } = options;
  try {
    const settings = {
      servers: typeof servers === "string" ? [servers] : servers,
      ...{ user: options.user ?? null, password: options.password ?? null, token: options.token ?? null },
      ...{ credsFile: options.credsFile ?? null, tlsCaFile: options.tlsCaFile ?? null },
      ...{ tlsCertFile: options.tlsCertFile ?? null, tlsKeyFile: options.tlsKeyFile ?? null },
    };
    const given = connectionOptionsOf(settings);
    return { ...given, name, ...(options.tls === true ? { tls: given.tls ?? {} } : {}) };
  } catch (cause) {
    throw asKintsugiError(cause);
  }
}

function clientOf(link: GatewayLink): KintsugiClient {
  const close = async () => {
    if (!link.connection.isClosed()) await link.connection.close();
  };
  return {
    put: (key, body, options = {}) => putObject(link, key, body, options),
    get: (key, options = {}) => getObject(link, key, options),
    head: (key, options = {}) => nullIfMissing(headObject(link, key, options)),
    delete: async (key, options = {}) => (await nullIfMissing(deleteObject(link, key, options))) !== null,
    undelete: (key, options = {}) => undeleteObject(link, key, options),
    list: (options = {}) => listPages(link, options),
    patch: (key, patch, options = {}) => patchObject(link, key, patch, options),
    fields: (key, names, options = {}) => nullIfMissing(readFields(link, key, names, options)),
    watch: (options = {}) => watchEvents(link, options),
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function nullIfMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof KintsugiError && cause.code === "object_not_found") return null;
    throw cause;
  }
}

async function headObject(link: GatewayLink, key: string, options: BucketOptions): Promise<ObjectDetails> {
  const answer = await callGateway(link, {
    operation: "head",
    headers: addressHeaders(key, options),
    repeatable: true,
  });
  return answer.json<ObjectDetails>();
}

async function deleteObject(link: GatewayLink, key: string, options: BucketOptions & WriteConditions): Promise<true> {
  const headers = [...addressHeaders(key, options), ...conditionHeaders(options)];
  await callGateway(link, { operation: "delete", headers, repeatable: false });
  return true;
}

async function undeleteObject(
  link: GatewayLink,
  key: string,
  options: BucketOptions & WriteConditions,
): Promise<Receipt> {
  const headers = [...addressHeaders(key, options), ...conditionHeaders(options)];
  return (await callGateway(link, { operation: "undelete", headers, repeatable: false })).json<Receipt>();
}

async function* listPages(link: GatewayLink, options: ListOptions): AsyncGenerator<ListPage, void, void> {
  let after = options.after ?? "";
  for (;;) {
    const headers = bucketHeaders(options);
    headers.push([HEADER.prefix, encodeHeaderText(options.prefix ?? "")]);
    headers.push([HEADER.delimiter, encodeHeaderText(options.delimiter ?? "")]);
    headers.push([HEADER.after, encodeHeaderText(after)]);
    headers.push([HEADER.limit, String(options.pageLimit ?? 1_000)]);
    const page = (await callGateway(link, { operation: "list", headers, repeatable: true })).json<ListPage>();
    yield page;
    if (page.next === null) return;
    after = page.next;
  }
}

async function patchObject(
  link: GatewayLink,
  key: string,
  patch: Uint8Array | string | object,
  options: PatchOptions,
): Promise<Receipt> {
  const text = typeof patch === "string" ? patch : JSON.stringify(patch);
  const body = patch instanceof Uint8Array ? patch : new TextEncoder().encode(text);
  const headers = [...addressHeaders(key, options), ...conditionHeaders(options)];
  if (options.consistency !== undefined) headers.push([HEADER.consistency, options.consistency]);
  return (await callGateway(link, { operation: "patch", headers, body, repeatable: false })).json<Receipt>();
}

async function readFields(
  link: GatewayLink,
  key: string,
  names: readonly string[],
  options: BucketOptions,
): Promise<ObjectFields> {
  const headers = addressHeaders(key, options);
  headers.push([HEADER.fields, names.map(encodeHeaderText).join(",")]);
  const answer = await callGateway(link, { operation: "fields", headers, repeatable: true });
  const fromHotPart = answer.headers?.get(HEADER.source) === "hot";
  return { info: objectInfoOf(answer), fromHotPart, bytes: answer.data };
}

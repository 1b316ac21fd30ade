/** The handlers of `/objects/<key>` and its short forms `/write`, `/read/<key>` and `/delete/<key>`. */
import { createHash } from "node:crypto";
import { StoreError } from "../../domain/errors.ts";
import { parseObjectKey, type ObjectKey } from "../../domain/ids.ts";
import type { Receipt } from "../../domain/receipt.ts";
import type { StoredRecord } from "../../domain/record.ts";
import { LIMITS } from "../../limits.ts";
import type { Body, GetResult, ObjectAddress } from "../../object/requests.ts";
import type { HttpExchange } from "../../runtime/http-exchange.ts";
import { refuseBody, sendJson, sendJsonBytes } from "./answer.ts";
import { describeObject } from "../object-info.ts";
import type { ObjectApi } from "../object-api.ts";
import { attributesOf, digestsOf, placementOf, preconditionsOf, rangeOf } from "./request-headers.ts";
import { contentHeaders, receiptHeaders, validatorHeaders } from "./response-headers.ts";
import type { RestHandler, RestRequest } from "./serve-route.ts";
import { bucketOf, decodeOnce, keyOfPath, parseQuery, pathOfKey } from "./target.ts";

/** Bodies up to this size are handed over whole: no stream, no second turn of the event loop. */
const COLLECT_BYTES_MAX = 64 * 1_024;
const INFO_SUFFIX = "/info";
const UNDELETE_PATTERN = /(?:^|&)undelete(?:=|&|$)/;

export type ObjectRoutes = {
  readonly put: RestHandler;
  readonly write: RestHandler;
  /** A put, or with `?undelete` what undoes a delete. */
  readonly post: RestHandler;
  readonly get: (prefix: string) => RestHandler;
  readonly patch: RestHandler;
  readonly delete: (prefix: string) => RestHandler;
};

export type ObjectRouteDeps = {
  readonly api: ObjectApi;
  readonly objectBytesMax: number;
  /** Throws `rate_limited` when the client writes too fast. */
  readonly admitWrite: (exchange: HttpExchange) => void;
};

export function createObjectRoutes(deps: ObjectRouteDeps): ObjectRoutes {
  const put: RestHandler = (request) => {
    const parameters = parseQuery(request.query, ["bucket", "strategy", "consistency"]);
    return putFromRequest(deps, request, keyOfPath(request.path, "/objects/"), parameters);
  };
  return {
    put,
    post: (request) => (UNDELETE_PATTERN.test(request.query) ? undeleteFromRequest(deps, request) : put(request)),
    write: (request) => {
      const parameters = parseQuery(request.query, ["key", "bucket", "strategy", "consistency"]);
      if (parameters.key === undefined) throw new StoreError("parameter_invalid", "The parameter key is missing");
      return putFromRequest(deps, request, parseObjectKey(parameters.key), parameters);
    },
    get: (prefix) => (request) => getFromRequest(deps.api, request, prefix),
    patch: (request) => patchFromRequest(deps, request),
    delete: (prefix) => (request) => deleteFromRequest(deps, request, prefix),
  };
}

async function putFromRequest(
  deps: ObjectRouteDeps,
  { exchange, requestId }: RestRequest,
  key: ObjectKey,
  parameters: { readonly bucket?: string; readonly strategy?: string; readonly consistency?: string },
): Promise<void> {
  const { incoming } = exchange;
  const bucket = bucketOf(parameters);
  const request = {
    bucket,
    key,
    ...placementOf(incoming, parameters),
    attributes: attributesOf(incoming),
    preconditions: preconditionsOf(incoming),
    ...digestsOf(incoming),
  };
  deps.admitWrite(exchange);
  const receipt = await withBody(deps, exchange, (body) => deps.api.put({ ...request, body }));
  await sendReceipt(exchange, requestId, receipt);
}

/**
 * Hands a small body over whole, its memory accounted for until `use` is done, and any other as a stream.
 * @throws {StoreError} `body_too_large`, `overloaded`, before anything of the body is asked for
 */
async function withBody<T>(
  { api, objectBytesMax }: ObjectRouteDeps,
  { body }: HttpExchange,
  use: (body: Body) => Promise<T>,
): Promise<T> {
  const sizeBytes = body.declaredBytes;
  if (sizeBytes !== null && sizeBytes > objectBytesMax) {
    throw new StoreError("body_too_large", `The body has ${sizeBytes} bytes, at most ${objectBytesMax} are allowed`, {
      details: { bytes: sizeBytes, bytesMax: objectBytesMax },
    });
  }
  if (sizeBytes === null || sizeBytes > COLLECT_BYTES_MAX)
    return await use({ kind: "stream", chunks: body, sizeBytes });
  const permit = await api.reserve(sizeBytes);
  try {
    return await use({ kind: "bytes", bytes: await body.collect(COLLECT_BYTES_MAX) });
  } finally {
    permit.release();
  }
}

async function sendReceipt(exchange: HttpExchange, requestId: string, receipt: Receipt): Promise<void> {
  const headers = receiptHeaders(receipt, requestId);
  if (receipt.created) headers.push("Location", pathOfKey(receipt.bucket, receipt.key));
  await sendJson(exchange, receipt.created ? 201 : 200, headers, receipt);
}

async function getFromRequest(api: ObjectApi, request: RestRequest, prefix: string): Promise<void> {
  const { exchange, query } = request;
  refuseBody(exchange);
  const key = keyOfPath(request.path, prefix);
  const parameters = parseQuery(query, ["bucket", "info", "fields"]);
  const address = { bucket: bucketOf(parameters), key };
  if (parameters.info !== undefined) {
    if (parameters.info !== "") throw new StoreError("parameter_invalid", "The parameter info takes no value");
    if (parameters.fields !== undefined)
      throw new StoreError("parameter_invalid", "info and fields exclude each other");
    return await sendInfo(api, request, address);
  }
  if (parameters.fields !== undefined) return await sendFields(api, request, address, parameters.fields);
  const found =
    exchange.method === "HEAD" ? await headOf(api, request, address) : await contentOf(api, request, address);
  if (found) return;
  // `<key>/info` is only a way to ask for `<key>?info` where no object has that very name.
  if (prefix === "/objects/" && key.endsWith(INFO_SUFFIX) && key.length > INFO_SUFFIX.length) {
    const described = { ...address, key: key.slice(0, -INFO_SUFFIX.length) as ObjectKey };
    return await sendInfo(api, request, described);
  }
  throw notFound();
}

/** False when there is no such object. */
async function contentOf(api: ObjectApi, request: RestRequest, address: ObjectAddress): Promise<boolean> {
  const { exchange, requestId } = request;
  const { incoming } = exchange;
  const result = await api.get({ ...address, ...rangeOf(incoming), preconditions: preconditionsOf(incoming) });
  if (result.outcome === "not_found") return false;
  if (result.outcome === "not_modified") await sendNotModified(request, result.stored);
  else await sendContent(exchange, requestId, result);
  return true;
}

function sendContent(
  exchange: HttpExchange,
  requestId: string,
  { stored, range, body }: Extract<GetResult, { outcome: "found" }>,
): Promise<void> {
  const { sizeBytes } = stored.record;
  const contentBytes = range === null ? sizeBytes : range.end - range.start;
  const headers = contentHeaders(stored, requestId, contentBytes);
  if (range !== null) headers.push("Content-Range", `bytes ${range.start}-${range.end - 1}/${sizeBytes}`);
  const status = range === null ? 200 : 206;
  if (body.kind === "bytes") return exchange.send(status, headers, body.bytes);
  return exchange.sendStream(status, headers, body.chunks, contentBytes);
}

async function headOf(api: ObjectApi, request: RestRequest, address: ObjectAddress): Promise<boolean> {
  const { exchange, requestId } = request;
  const result = await api.head({ ...address, preconditions: preconditionsOf(exchange.incoming) });
  if (result.outcome === "not_found") return false;
  if (result.outcome === "not_modified") await sendNotModified(request, result.stored);
  else await exchange.send(200, contentHeaders(result.stored, requestId, result.stored.record.sizeBytes), null);
  return true;
}

async function sendInfo(api: ObjectApi, request: RestRequest, address: ObjectAddress): Promise<void> {
  const { exchange, requestId } = request;
  const result = await api.head({ ...address, preconditions: preconditionsOf(exchange.incoming) });
  if (result.outcome === "not_found") throw notFound();
  if (result.outcome === "not_modified") return await sendNotModified(request, result.stored);
  await sendJson(exchange, 200, validatorHeaders(result.stored, requestId), describeObject(result.stored));
}

async function sendFields(
  api: ObjectApi,
  request: RestRequest,
  address: ObjectAddress,
  fieldList: string,
): Promise<void> {
  const { exchange, requestId } = request;
  const fields = parseFields(fieldList);
  const result = await api.readFields({ ...address, fields, preconditions: preconditionsOf(exchange.incoming) });
  if (result.outcome === "not_found") throw notFound();
  if (result.outcome === "not_modified") return await sendNotModified(request, result.stored);
  const headers = validatorHeaders(result.stored, requestId);
  headers.push("x-kintsugi-source", result.fromHotPart ? "hot" : "document", "X-Content-Type-Options", "nosniff");
  await sendJsonBytes(exchange, 200, headers, result.json);
}

/** Names separated by commas; a comma inside a name is sent as %2C. @throws {StoreError} `parameter_invalid` */
function parseFields(list: string): string[] {
  const fields = new Set<string>();
  for (const raw of list.split(",")) {
    const field = decodeOnce(raw);
    if (field === null) throw new StoreError("parameter_invalid", "A field name has a broken percent escape");
    fields.add(field);
  }
  if (list === "" || fields.size > LIMITS.projectionFieldsMax) {
    throw new StoreError("parameter_invalid", `Name 1 to ${LIMITS.projectionFieldsMax} fields, separated by commas`);
  }
  return [...fields];
}

const MERGE_PATCH = "application/merge-patch+json";

async function patchFromRequest(
  deps: ObjectRouteDeps,
  { exchange, requestId, path, query }: RestRequest,
): Promise<void> {
  const { incoming, body } = exchange;
  const key = keyOfPath(path, "/objects/");
  const parameters = parseQuery(query, ["bucket", "consistency"]);
  const { consistency } = placementOf(incoming, parameters);
  const mediaType = (incoming.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase();
  if (mediaType !== MERGE_PATCH) {
    throw new StoreError("media_type_unsupported", `A patch has the Content-Type ${MERGE_PATCH}`);
  }
  const preconditions = preconditionsOf(incoming);
  const digests = digestsOf(incoming);
  deps.admitWrite(exchange);
  const permit = await deps.api.reserve(Math.min(body.declaredBytes ?? LIMITS.patchBytesMax, LIMITS.patchBytesMax));
  try {
    const patch = await body.collect(LIMITS.patchBytesMax);
    if (patch.length === 0) throw new StoreError("body_required", "The patch is empty: send a JSON object");
    checkDigest(patch, "sha256", digests.expectedSha256);
    checkDigest(patch, "md5", digests.expectedMd5);
    const receipt = await deps.api.patch({ bucket: bucketOf(parameters), key, patch, consistency, preconditions });
    await sendReceipt(exchange, requestId, receipt);
  } finally {
    permit.release();
  }
}

function checkDigest(bytes: Uint8Array, algorithm: "sha256" | "md5", expected: string | null): void {
  if (expected === null || createHash(algorithm).update(bytes).digest("hex") === expected) return;
  throw new StoreError("digest_mismatch", `The ${algorithm} of the body is not the one that was announced`);
}

async function deleteFromRequest(deps: ObjectRouteDeps, request: RestRequest, prefix: string): Promise<void> {
  const { exchange, requestId } = request;
  refuseBody(exchange);
  const key = keyOfPath(request.path, prefix);
  const bucket = bucketOf(parseQuery(request.query, ["bucket"]));
  const preconditions = preconditionsOf(exchange.incoming);
  deps.admitWrite(exchange);
  const { existed } = await deps.api.delete({ bucket, key, preconditions });
  if (!existed) throw notFound();
  await exchange.send(204, ["X-Request-Id", requestId], null);
}

async function undeleteFromRequest(deps: ObjectRouteDeps, request: RestRequest): Promise<void> {
  const { exchange, requestId, path, query } = request;
  refuseBody(exchange);
  const key = keyOfPath(path, "/objects/");
  const parameters = parseQuery(query, ["bucket", "undelete"]);
  if (parameters.undelete !== "") throw new StoreError("parameter_invalid", "The parameter undelete takes no value");
  const preconditions = preconditionsOf(exchange.incoming);
  deps.admitWrite(exchange);
  const receipt = await deps.api.undelete({ bucket: bucketOf(parameters), key, preconditions });
  await sendReceipt(exchange, requestId, receipt);
}

async function sendNotModified({ exchange, requestId }: RestRequest, stored: StoredRecord): Promise<void> {
  await exchange.send(304, validatorHeaders(stored, requestId), null);
}

function notFound(): StoreError {
  return new StoreError("object_not_found", "There is no object of this name");
}

/** The operations that change nothing: get, head, list, fields. */
import type { MsgHdrs } from "@nats-io/transport-node";
import { StoreError } from "../../domain/errors.ts";
import { HEADER, NOT_MODIFIED, WINDOW_CHUNKS } from "../../nats/object-protocol.ts";
import type { Body, GetResult } from "../../object/requests.ts";
import { describeObject, summarizeObject } from "../object-info.ts";
import { objectHeaders, plainHeaders } from "./answer-headers.ts";
import type { HandlerDeps } from "./door.ts";
import { Download } from "./download.ts";
import { asStoreError, errorAnswerOf } from "./errors.ts";
import {
  addressOf,
  bucketOf,
  countOf,
  deliverSubjectOf,
  fieldNamesOf,
  listOptionsOf,
  preconditionsOf,
  rangeOf,
} from "./request-headers.ts";
import type { DoorHandler, DoorRequest } from "./serve-message.ts";
import { failedFrame } from "./transfer-board.ts";

export function createGet(deps: HandlerDeps): DoorHandler {
  return async (request) => {
    const { fields, requestId } = request;
    const deliver = deliverSubjectOf(fields);
    const windowChunks = Math.min(countOf(fields, HEADER.window, 1_024) ?? WINDOW_CHUNKS, WINDOW_CHUNKS);
    const preconditions = preconditionsOf(fields);
    const result = await deps.api.get({ ...addressOf(fields), range: rangeOf(fields), ifRange: null, preconditions });
    if (result.outcome !== "found") return answerAbsent(request, result);
    const headers = objectHeaders(result.stored, requestId);
    const { range, body } = result;
    const { sizeBytes } = result.stored.record;
    if (range !== null) headers.set(HEADER.range, `${range.start}-${range.end - 1}/${sizeBytes}`);
    const contentBytes = range === null ? sizeBytes : range.end - range.start;
    if (contentBytes <= deps.messageBytesMax()) return await answerWhole(deps, request, headers, body, contentBytes);
    if (deliver === null) {
      await dropBody(body);
      throw new StoreError(
        "body_too_large",
        `${contentBytes} bytes do not fit a message: ask for a range of them, or offer a subject for chunks`,
        { details: { sizeBytes: contentBytes, messageBytesMax: deps.messageBytesMax() } },
      );
    }
    const sha256 = range === null ? result.stored.record.sha256 : null;
    await transfer(deps, request, headers, { body, deliver, windowChunks, sha256 });
  };
}

/** @throws {StoreError} `object_not_found` */
function answerAbsent(request: DoorRequest, result: Exclude<GetResult, { outcome: "found" }>): void {
  if (result.outcome === "not_found") {
    throw new StoreError("object_not_found", "There is no object of this name");
  }
  const headers = objectHeaders(result.stored, request.requestId);
  headers.set(HEADER.outcome, NOT_MODIFIED);
  request.respond(headers);
}

async function answerWhole(
  deps: HandlerDeps,
  request: DoorRequest,
  headers: MsgHdrs,
  body: Body,
  sizeBytes: number,
): Promise<void> {
  if (body.kind === "bytes") return request.respond(headers, body.bytes);
  const permit = await reserveFor(deps, body, sizeBytes);
  try {
    const bytes = Buffer.allocUnsafe(sizeBytes);
    let filled = 0;
    for await (const chunk of body.chunks) {
      bytes.set(chunk, filled);
      filled += chunk.length;
    }
    request.respond(headers, bytes);
  } finally {
    permit.release();
  }
}

type Outgoing = {
  readonly body: Body;
  readonly deliver: string;
  readonly windowChunks: number;
  readonly sha256: string | null;
};

async function transfer(deps: HandlerDeps, request: DoorRequest, headers: MsgHdrs, outgoing: Outgoing): Promise<void> {
  const { body, deliver, windowChunks, sha256 } = outgoing;
  const { board } = deps;
  const { chunkBytes } = board;
  const permit = await reserveFor(deps, body, windowChunks * chunkBytes);
  const send = (frame: Uint8Array, reply: string | null) => board.send(reply ?? deliver, frame);
  const download = new Download({ send, windowChunks, chunkBytes });
  const seat = board.add(download);
  try {
    headers.set(HEADER.transfer, seat.subject);
    headers.set(HEADER.chunkBytes, String(chunkBytes));
    headers.set(HEADER.window, String(windowChunks));
    request.respond(headers);
    await download.run(body.kind === "bytes" ? inOneChunk(body.bytes) : body.chunks, sha256);
  } catch (cause) {
    send(failedFrame(errorAnswerOf(asStoreError(cause), request.requestId)), null);
    throw cause;
  } finally {
    seat.remove();
    permit.release();
    request.count(0, download.sentBytes);
  }
}

async function* inOneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A body that nobody reads has to be told so. */
async function reserveFor(deps: HandlerDeps, body: Body, bytes: number) {
  try {
    return await deps.api.reserve(bytes);
  } catch (cause) {
    await dropBody(body);
    throw cause;
  }
}

async function dropBody(body: Body): Promise<void> {
  if (body.kind === "stream") await body.chunks[Symbol.asyncIterator]().return?.();
}

export function createHead(deps: HandlerDeps): DoorHandler {
  return async (request) => {
    const { fields, requestId } = request;
    const result = await deps.api.head({ ...addressOf(fields), preconditions: preconditionsOf(fields) });
    if (result.outcome !== "found") return answerAbsent(request, result);
    request.respond(objectHeaders(result.stored, requestId), jsonOf(describeObject(result.stored)));
  };
}

export function createFields(deps: HandlerDeps): DoorHandler {
  return async (request) => {
    const { fields, requestId } = request;
    const names = fieldNamesOf(fields);
    const preconditions = preconditionsOf(fields);
    const result = await deps.api.readFields({ ...addressOf(fields), fields: names, preconditions });
    if (result.outcome !== "found") return answerAbsent(request, result);
    if (result.json.length > deps.answerBytesMax()) {
      throw new StoreError("json_too_large", `The fields have ${result.json.length} bytes, more than fits a message`, {
        details: { sizeBytes: result.json.length, messageBytesMax: deps.answerBytesMax() },
      });
    }
    const headers = objectHeaders(result.stored, requestId);
    headers.set(HEADER.source, result.fromHotPart ? "hot" : "document");
    request.respond(headers, result.json);
  };
}

/** A page that does not fit a message is cut short: `next` says where to go on. */
export function createList(deps: HandlerDeps): DoorHandler {
  return async ({ fields, requestId, respond }) => {
    const bucket = bucketOf(fields);
    const options = listOptionsOf(fields);
    for (let limit = options.limit; ; limit = Math.ceil(limit / 2)) {
      const { entries, commonPrefixes, next } = await deps.api.list(bucket, { ...options, limit });
      const page = { bucket, ...options, limit, objects: entries.map(summarizeObject), commonPrefixes, next };
      const json = jsonOf(page);
      if (json.length <= deps.answerBytesMax() || limit === 1) return respond(plainHeaders(requestId), json);
    }
  };
}

export function jsonOf(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

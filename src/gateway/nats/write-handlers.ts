/** The operations that change something: put, patch, delete, undelete. */
import { createHash } from "node:crypto";
import { StoreError } from "../../domain/errors.ts";
import type { Receipt } from "../../domain/receipt.ts";
import { assert } from "../../lib/assert.ts";
import { LIMITS } from "../../limits.ts";
import { HEADER, WINDOW_CHUNKS } from "../../nats/object-protocol.ts";
import { encodeFrame } from "../../nats/transfer-frame.ts";
import type { PutRequest } from "../../object/requests.ts";
import { plainHeaders } from "./answer-headers.ts";
import type { HandlerDeps } from "./door.ts";
import { asStoreError, errorAnswerOf } from "./errors.ts";
import { jsonOf } from "./read-handlers.ts";
import {
  addressOf,
  announcedSizeOf,
  attributesOf,
  deliverSubjectOf,
  placementOf,
  preconditionsOf,
  sha256Of,
} from "./request-headers.ts";
import type { DoorHandler, DoorRequest } from "./serve-message.ts";
import { failedFrame } from "./transfer-board.ts";
import { Upload } from "./upload.ts";

type PutHead = Omit<PutRequest, "body">;

export function createPut(deps: HandlerDeps): DoorHandler {
  return async (request) => {
    const { fields, body } = request;
    const head: PutHead = {
      ...addressOf(fields),
      ...placementOf(fields),
      attributes: attributesOf(fields),
      preconditions: preconditionsOf(fields),
      expectedSha256: sha256Of(fields),
      expectedMd5: null,
    };
    const deliver = deliverSubjectOf(fields);
    const announcedBytes = announcedSizeOf(fields);
    if (deliver === null) return await putWhole(deps, request, head, announcedBytes);
    if (body.length > 0)
      throw new StoreError("request_malformed", "A body comes in the request or in chunks, not both");
    requireSize(deps, announcedBytes ?? 0);
    await putInChunks(deps, request, head, { deliver, announcedBytes });
  };
}

async function putWhole(
  deps: HandlerDeps,
  { body, requestId, respond }: DoorRequest,
  head: PutHead,
  announcedBytes: number | null,
): Promise<void> {
  if (announcedBytes !== null && announcedBytes !== body.length) {
    throw new StoreError("body_incomplete", `The body has ${body.length} bytes, ${announcedBytes} were announced`);
  }
  requireSize(deps, body.length);
  const permit = await deps.api.reserve(body.length);
  try {
    const receipt = await deps.api.put({ ...head, body: { kind: "bytes", bytes: body } });
    respond(plainHeaders(requestId), jsonOf(receipt));
  } finally {
    permit.release();
  }
}

/** @throws {StoreError} `body_too_large` */
function requireSize({ objectBytesMax }: HandlerDeps, sizeBytes: number): void {
  if (sizeBytes <= objectBytesMax) return;
  throw new StoreError("body_too_large", `The body has ${sizeBytes} bytes, at most ${objectBytesMax} are allowed`, {
    details: { bytes: sizeBytes, bytesMax: objectBytesMax },
  });
}

/** Answers where the chunks should go; the receipt, or the failure, comes as a frame. */
async function putInChunks(
  deps: HandlerDeps,
  request: DoorRequest,
  head: PutHead,
  { deliver, announcedBytes }: { readonly deliver: string; readonly announcedBytes: number | null },
): Promise<void> {
  const { board, api } = deps;
  const { chunkBytes } = board;
  const permit = await api.reserve(WINDOW_CHUNKS * chunkBytes);
  const upload: Upload = new Upload({
    send: (frame, reply) => board.send(reply ?? deliver, frame),
    windowChunks: WINDOW_CHUNKS,
    chunkBytes,
    onForgotten: () => seat.remove(),
  });
  const seat = board.add(upload);
  try {
    const headers = plainHeaders(request.requestId);
    headers.set(HEADER.transfer, seat.subject);
    headers.set(HEADER.chunkBytes, String(chunkBytes));
    headers.set(HEADER.window, String(WINDOW_CHUNKS));
    request.respond(headers);
    const receipt = await api.put(lateDigest(head, upload, announcedBytes));
    upload.finish(encodeFrame("done", 0, 0, jsonOf(receipt satisfies Receipt)));
  } catch (cause) {
    upload.finish(failedFrame(errorAnswerOf(asStoreError(cause), request.requestId)));
    throw cause;
  } finally {
    permit.release();
    request.count(upload.receivedBytes, 0);
  }
}

/** The store asks for the digest to expect when it has read all of the body: then the sender's is known. */
function lateDigest(head: PutHead, upload: Upload, announcedBytes: number | null): PutRequest {
  const { expectedSha256: announced, ...rest } = head;
  return {
    ...rest,
    body: { kind: "stream", chunks: upload, sizeBytes: announcedBytes },
    get expectedSha256() {
      assert(upload.sha256 !== null, "the digest is asked for behind the end of the body");
      if (announced !== null && announced !== upload.sha256) {
        throw new StoreError(
          "digest_mismatch",
          "The SHA-256 at the end of the body is not the one announced before it",
        );
      }
      return upload.sha256;
    },
  };
}

export function createPatch(deps: HandlerDeps): DoorHandler {
  return async ({ fields, body, requestId, respond }) => {
    const address = addressOf(fields);
    const { consistency } = placementOf(fields);
    const preconditions = preconditionsOf(fields);
    const expected = sha256Of(fields);
    if (body.length === 0) throw new StoreError("body_required", "The patch is empty: send a JSON object");
    if (body.length > LIMITS.patchBytesMax) {
      throw new StoreError("body_too_large", `A patch has at most ${LIMITS.patchBytesMax} bytes`);
    }
    if (expected !== null && createHash("sha256").update(body).digest("hex") !== expected) {
      throw new StoreError("digest_mismatch", "The SHA-256 of the body is not the one that was announced");
    }
    const permit = await deps.api.reserve(body.length);
    try {
      const receipt = await deps.api.patch({ ...address, patch: body, consistency, preconditions });
      respond(plainHeaders(requestId), jsonOf(receipt));
    } finally {
      permit.release();
    }
  };
}

export function createDelete(deps: HandlerDeps): DoorHandler {
  return async ({ fields, requestId, respond }) => {
    const { existed } = await deps.api.delete({ ...addressOf(fields), preconditions: preconditionsOf(fields) });
    if (!existed) throw new StoreError("object_not_found", "There is no object of this name");
    respond(plainHeaders(requestId), jsonOf({ deleted: true }));
  };
}

export function createUndelete(deps: HandlerDeps): DoorHandler {
  return async ({ fields, requestId, respond }) => {
    const receipt = await deps.api.undelete({ ...addressOf(fields), preconditions: preconditionsOf(fields) });
    respond(plainHeaders(requestId), jsonOf(receipt));
  };
}

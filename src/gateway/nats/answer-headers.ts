/** Headers of answers about an object. */
import { headers as newHeaders, type MsgHdrs } from "@nats-io/transport-node";
import type { StoredRecord } from "../../domain/record.ts";
import { encodeHeaderText, HEADER } from "../../nats/object-protocol.ts";

export function plainHeaders(requestId: string): MsgHdrs {
  const headers = newHeaders();
  headers.set(HEADER.requestId, requestId);
  return headers;
}

/** What is true of the current version, whether or not its bytes are sent. */
export function objectHeaders({ record }: StoredRecord, requestId: string): MsgHdrs {
  const headers = plainHeaders(requestId);
  headers.set(HEADER.etag, record.etag);
  headers.set(HEADER.version, record.version);
  headers.set(HEADER.size, String(record.sizeBytes));
  headers.set(HEADER.contentType, record.contentType);
  headers.set(HEADER.strategy, record.manifest.strategy);
  headers.set(HEADER.modifiedAt, new Date(record.modifiedAtMs).toISOString());
  if (record.sha256 !== null) headers.set(HEADER.sha256, record.sha256);
  for (const name in record.userMetadata) {
    headers.set(HEADER.metaPrefix + name, encodeHeaderText(record.userMetadata[name] as string));
  }
  return headers;
}

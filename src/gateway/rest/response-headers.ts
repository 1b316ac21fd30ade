/** Header fields of answers about an object. */
import type { Receipt } from "../../domain/receipt.ts";
import type { StoredRecord } from "../../domain/record.ts";
import type { HeaderList } from "../../runtime/http-exchange.ts";
import { headerOfUtf8, META_PREFIX } from "./request-headers.ts";

/** What is true of the current version, whether or not its bytes are sent. */
export function validatorHeaders({ record }: StoredRecord, requestId: string): HeaderList {
  return [
    "ETag",
    `"${record.etag}"`,
    "Last-Modified",
    httpDate(record.modifiedAtMs),
    "x-kintsugi-version",
    record.version,
    "X-Request-Id",
    requestId,
  ];
}

/** Of an answer with the object's bytes, or a range of them. */
export function contentHeaders(stored: StoredRecord, requestId: string, contentBytes: number): HeaderList {
  const { record } = stored;
  const headers = validatorHeaders(stored, requestId);
  headers.push(
    "Content-Type",
    record.contentType,
    "Content-Length",
    String(contentBytes),
    "Accept-Ranges",
    "bytes",
    "x-kintsugi-strategy",
    record.manifest.strategy,
    // Stored bytes come from strangers: a browser must neither guess at them nor let them run as this origin.
    "X-Content-Type-Options",
    "nosniff",
    "Content-Security-Policy",
    "sandbox; default-src 'none'",
  );
  if (record.sha256 !== null) {
    const base64 = Buffer.from(record.sha256, "hex").toString("base64");
    headers.push("x-kintsugi-sha256", record.sha256, "Repr-Digest", `sha-256=:${base64}:`);
  }
  for (const name in record.userMetadata) {
    headers.push(META_PREFIX + name, headerOfUtf8(record.userMetadata[name] as string));
  }
  return headers;
}

export function receiptHeaders(receipt: Receipt, requestId: string): HeaderList {
  const headers = ["ETag", `"${receipt.etag}"`, "x-kintsugi-version", receipt.version, "X-Request-Id", requestId];
  if (receipt.sha256 !== null) headers.push("x-kintsugi-sha256", receipt.sha256);
  return headers;
}

let dateSecond = Number.NaN;
let dateText = "";

/** The last one is kept: what is read often was mostly written together, or is the same object. */
function httpDate(ms: number): string {
  const second = Math.floor(ms / 1_000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(ms).toUTCString();
  }
  return dateText;
}

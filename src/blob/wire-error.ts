/** How an operating failure crosses from a node to its client: code, message, whether a repeat may help, details. */
import { ERROR_CODES, StoreError, type ErrorCode } from "../domain/errors.ts";
import { malformedMessage, WireReader, WireWriter } from "./wire-bytes.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";

type Details = StoreError["details"];

const CODES: ReadonlySet<string> = new Set(ERROR_CODES);

/** Layout: code text8, retriable u8, message bytes16, details as JSON bytes16. The cause stays at home. */
export function encodeWireError(error: StoreError): Buffer {
  const message = Buffer.from(error.message).subarray(0, WIRE_LIMITS.errorMessageBytesMax);
  const details = Buffer.from(JSON.stringify(error.details));
  const isSmall = details.length <= WIRE_LIMITS.errorMessageBytesMax;
  const detailBytes = isSmall ? details : Buffer.from("{}");
  const writer = new WireWriter(1 + error.code.length + 1 + 2 + message.length + 2 + detailBytes.length);
  writer.text8(error.code);
  writer.u8(error.retriable ? 1 : 0);
  writer.bytes16(message);
  writer.bytes16(detailBytes);
  return writer.bytes;
}

/** @throws {StoreError} `format_unknown` when it cannot be read */
export function decodeWireError(bytes: Buffer): StoreError {
  const reader = new WireReader(bytes);
  const code = reader.text8();
  const retriable = reader.u8() === 1;
  const message = reader.bytes16().toString();
  const details = parseDetails(reader.bytes16().toString());
  reader.end();
  // A newer node may know codes that this program does not.
  return new StoreError(CODES.has(code) ? (code as ErrorCode) : "internal", message, { retriable, details });
}

function parseDetails(text: string): Record<string, Details[string]> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw malformedMessage("the details of an error are no JSON");
  }
  if (typeof value !== "object" || value === null) throw malformedMessage("the details of an error are no object");
  const isPlain = (entry: [string, unknown]): entry is [string, Details[string]] =>
    entry[1] === null || ["string", "number", "boolean"].includes(typeof entry[1]);
  return Object.fromEntries(Object.entries(value).filter(isPlain));
}

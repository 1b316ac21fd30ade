import { Packr } from "msgpackr";
import type { z } from "zod";
import { StoreError } from "./errors.ts";

export type MessageCodec<T> = {
  encode(value: T): Uint8Array;
  /** Leaves out what this version does not know. @throws {StoreError} `format_unknown` */
  decode(bytes: Uint8Array): T;
};

const FORMAT_VERSION = 1;
const packr = new Packr({ useRecords: false });

/** What processes of a cluster tell each other or keep for each other. Layout: version byte, MessagePack of the value. */
export function createMessageCodec<T>(name: string, schema: z.ZodType<T>): MessageCodec<T> {
  return {
    encode(value) {
      const body = packr.pack(value);
      const bytes = Buffer.allocUnsafe(body.length + 1);
      bytes[0] = FORMAT_VERSION;
      bytes.set(body, 1);
      return bytes;
    },
    decode(bytes) {
      if (bytes[0] !== FORMAT_VERSION) {
        throw unreadable(name, `it has format ${bytes[0]}, this program knows ${FORMAT_VERSION}`);
      }
      const parsed = schema.safeParse(unpack(name, bytes.subarray(1)));
      if (parsed.success) return parsed.data;
      const [issue] = parsed.error.issues;
      throw unreadable(name, `${issue?.path.join(".")}: ${issue?.message}`);
    },
  };
}

function unpack(name: string, body: Uint8Array): unknown {
  try {
    return packr.unpack(body);
  } catch (cause) {
    throw unreadable(name, "its bytes are no MessagePack", cause);
  }
}

function unreadable(name: string, reason: string, cause?: unknown): StoreError {
  return new StoreError("format_unknown", `Cannot read ${name}: ${reason}`, { cause });
}

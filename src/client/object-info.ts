import type { Msg } from "@nats-io/transport-node";
import { decodeHeaderText, HEADER } from "../nats/object-protocol.ts";

/** What is true of an object's current version. */
export type ObjectInfo = {
  /** Opaque, without quotes: another one means other bytes. */
  readonly etag: string;
  readonly version: string;
  readonly sizeBytes: number;
  /** Lower-case hex; null when nobody has read the whole since a field of it changed. */
  readonly sha256: string | null;
  readonly contentType: string;
  readonly strategy: string;
  readonly modifiedAt: Date;
  readonly userMetadata: Readonly<Record<string, string>>;
};

export function objectInfoOf(answer: Msg): ObjectInfo {
  const textOf = (name: string) => answer.headers?.get(name) ?? "";
  const userMetadata = Object.create(null) as Record<string, string>;
  const prefix = HEADER.metaPrefix.toLowerCase();
  for (const [name, values] of answer.headers ?? []) {
    const lowerName = name.toLowerCase();
    if (lowerName.startsWith(prefix)) {
      userMetadata[lowerName.slice(prefix.length)] = decodeHeaderText(values[0] ?? "") ?? "";
    }
  }
  const sha256 = textOf(HEADER.sha256);
  return {
    etag: textOf(HEADER.etag),
    version: textOf(HEADER.version),
    sizeBytes: Number(textOf(HEADER.size)),
    sha256: sha256 === "" ? null : sha256,
    contentType: textOf(HEADER.contentType),
    strategy: textOf(HEADER.strategy),
    modifiedAt: new Date(textOf(HEADER.modifiedAt)),
    userMetadata,
  };
}

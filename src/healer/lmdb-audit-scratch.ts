/** What records say of blob sets, in the order of blob ids: on disk, because there may be millions, and only for one audit. */
import { mkdirSync, rmSync } from "node:fs";
import { Packr } from "msgpackr";
import { open, type RootDatabase } from "lmdb";
import type { BucketName, NodeName, ObjectKey, VersionId } from "../domain/ids.ts";
import { GIB } from "../lib/bytes.ts";

/** One set as one record names it. */
export type SetEntry = {
  /** `<txid>.<part>`. */
  readonly name: string;
  readonly bucket: BucketName;
  readonly key: ObjectKey;
  readonly version: VersionId;
  /** How many blobs are enough to read it; of a kept record, how many there should be on whatever nodes. */
  readonly needed: number;
  /** Of each blob, where it has content: what its node must have. */
  readonly cellCount: number;
  readonly payloadBytes: number;
  /** Null for a set of kept records: any node may hold one. */
  readonly nodes: readonly (NodeName | null)[] | null;
};

const packr = new Packr({ useRecords: false });
const MAP_BYTES = 64 * GIB;
const SEPARATOR = "\0";

export class AuditScratch {
  readonly #path: string;
  readonly #db: RootDatabase<Buffer, Buffer>;

  /** Whatever an earlier audit left there is thrown away. */
  constructor(path: string) {
    this.#path = path;
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true });
    // Nothing of it need survive, so nothing is ever flushed; the file grows as it is filled.
    this.#db = open<Buffer, Buffer>({
      path,
      keyEncoding: "binary",
      encoding: "binary",
      mapSize: MAP_BYTES,
      noSync: true,
      noMetaSync: true,
      overlappingSync: false,
    });
  }

  /** Resolves when a later `page` sees them. */
  async add(entries: readonly SetEntry[]): Promise<void> {
    let last: Promise<boolean> | null = null;
    for (const { name, bucket, key, ...rest } of entries) {
      const value = packr.pack([bucket, key, rest.version, rest.needed, rest.cellCount, rest.payloadBytes, rest.nodes]);
      last = this.#db.put(Buffer.from(`${name}${SEPARATOR}${bucket}${SEPARATOR}${key}`), value);
    }
    await last;
  }

  /** Entries behind `cursor` in order of their sets, at most `limit`, and the cursor behind them. */
  page(
    cursor: Buffer | null,
    limit: number,
  ): { readonly entries: readonly SetEntry[]; readonly cursor: Buffer | null } {
    const entries: SetEntry[] = [];
    let last = cursor;
    const range = cursor === null ? { limit } : { start: cursor, exclusiveStart: true, limit };
    for (const { key: bytes, value } of this.#db.getRange(range)) {
      const [bucket, key, version, needed, cellCount, payloadBytes, nodes] = packr.unpack(value) as [
        BucketName,
        ObjectKey,
        VersionId,
        number,
        number,
        number,
        (NodeName | null)[] | null,
      ];
      const name = bytes.toString("utf8", 0, bytes.indexOf(0));
      entries.push({ name, bucket, key, version, needed, cellCount, payloadBytes, nodes });
      last = Buffer.from(bytes);
    }
    return { entries, cursor: last };
  }

  async close(): Promise<void> {
    await this.#db.close();
    rmSync(this.#path, { recursive: true, force: true });
  }
}

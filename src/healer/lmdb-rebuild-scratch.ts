/** What nodes tell, by blob set and by key: on disk, because there may be millions, and only for one rebuild. */
import { mkdirSync, rmSync } from "node:fs";
import { open, type RootDatabase } from "lmdb";
import { decodeDescriptor } from "../domain/blob.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { parseBlobId } from "../domain/ids.ts";
import { GIB } from "../lib/bytes.ts";
import type { FoundState } from "./rebuild-plan.ts";

const MAP_BYTES = 64 * GIB;
const PLACES = "p";
const STATES = "s";
const SEPARATOR = "\0";
const EMPTY = Buffer.alloc(0);

export type FoundSet = { readonly name: string; readonly places: readonly { id: BlobId; node: NodeName }[] };
/** `cursor` is where the next key begins. */
export type FoundKey = { readonly states: readonly FoundState[]; readonly cursor: Buffer };

export class RebuildScratch implements AsyncDisposable {
  readonly #path: string;
  readonly #db: RootDatabase<Buffer, Buffer>;

  /** Whatever an earlier rebuild left there is thrown away. */
  constructor(path: string) {
    this.#path = path;
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true });
    const options = { keyEncoding: "binary", encoding: "binary", mapSize: MAP_BYTES } as const;
    // Nothing of it need survive, so nothing is ever flushed.
    this.#db = open<Buffer, Buffer>({ path, ...options, noSync: true, noMetaSync: true, overlappingSync: false });
  }

  /** Resolves when it can be found. Of ids that are none of ours nothing is kept. */
  async addPlaces(node: NodeName, ids: readonly BlobId[]): Promise<void> {
    let last: Promise<boolean> | null = null;
    for (const id of ids) {
      const parsed = parseBlobId(id);
      if (parsed === null) continue;
      const index = String(parsed.index).padStart(3, "0");
      const key = [PLACES, `${parsed.txid}.${parsed.part}`, index, node].join(SEPARATOR);
      last = this.#db.put(Buffer.from(key), EMPTY);
    }
    await last;
  }

  /** The descriptor as a blob of content, or a kept record, has it. */
  async addState(kind: FoundState["kind"], descriptor: Uint8Array): Promise<void> {
    const { record } = decodeDescriptor(descriptor);
    const key = [STATES, record.bucket, record.key, kind, record.version].join(SEPARATOR);
    await this.#db.put(Buffer.from(key), Buffer.from(descriptor));
  }

  /** The next set behind `after`, "" for the first; null at the end. */
  nextSet(after: string): FoundSet | null {
    const start = Buffer.from(`${PLACES}${SEPARATOR}${after}${after === "" ? "" : "\u0001"}`);
    const [first] = this.#db.getKeys({ start, end: Buffer.from(`${PLACES}\u0001`), limit: 1 });
    if (first === undefined) return null;
    const name = first.toString("latin1").split(SEPARATOR)[1] as string;
    return { name, places: this.#placesOf(name) };
  }

  /** For each blob of a set of `count` the nodes that hold it. */
  nodesOf(name: string, count: number): NodeName[][] {
    const nodes: NodeName[][] = Array.from({ length: count }, () => []);
    for (const { id, node } of this.#placesOf(name)) nodes[Number(id.split(".")[2])]?.push(node);
    return nodes;
  }

  /** The next key and all that is known of it; null at the end. */
  nextKey(cursor: Buffer | null): FoundKey | null {
    const end = Buffer.from(`${STATES}\u0001`);
    const [first] = this.#db.getKeys({ start: cursor ?? Buffer.from(`${STATES}${SEPARATOR}`), end, limit: 1 });
    if (first === undefined) return null;
    const [, bucket, key] = first.toString("utf8").split(SEPARATOR) as [string, string, string];
    const prefix = Buffer.from(`${STATES}${SEPARATOR}${bucket}${SEPARATOR}${key}`);
    const behind = Buffer.concat([prefix, Buffer.of(1)]);
    const states: FoundState[] = [];
    for (const { key: found, value } of this.#db.getRange({ start: prefix, end: behind })) {
      const { record, revisionSeen } = decodeDescriptor(value);
      if (record.bucket !== bucket || record.key !== key) continue;
      const kind = found.toString("latin1").split(SEPARATOR).at(-2) as FoundState["kind"];
      states.push({ kind, revision: revisionSeen, record });
    }
    return { states, cursor: behind };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#db.close();
    rmSync(this.#path, { recursive: true, force: true });
  }

  #placesOf(name: string): { id: BlobId; node: NodeName }[] {
    const range = {
      start: Buffer.from(`${PLACES}${SEPARATOR}${name}${SEPARATOR}`),
      end: Buffer.from(`${PLACES}${SEPARATOR}${name}\u0001`),
    };
    return [...this.#db.getKeys(range)].map((key) => {
      const [, , index, node] = key.toString("latin1").split(SEPARATOR) as [string, string, string, string];
      return { id: `${name}.${Number(index)}` as BlobId, node: node as NodeName };
    });
  }
}

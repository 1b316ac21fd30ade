/**
 * A node's blobs over HTTP: the `BlobStore` of a gateway or healer. What is small waits for company while requests are
 * under way and then goes together, writes and reads apart, so that a read never waits for a disk to flush; writers and
 * large reads have connections of their own.
 *
 * | what happened | told as |
 * |---|---|
 * | the node answered | its own `StoreError`, code for code |
 * | nobody answers at its address, or the connection broke | `node_unavailable` |
 * | no answer before the deadline, or a write was sent and the connection broke | `deadline_exceeded`: the outcome is unknown |
 * | either side does not know the cluster's secret, or bytes were changed on the way | `node_refused` |
 */
import type { Registry } from "prom-client";
import type { BlobInfo, Cell } from "../domain/blob.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import type { NodeState, NodeUsage } from "../domain/node-info.ts";
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn, remainingMs, withDeadline, type Deadline } from "../lib/deadline.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/logger.ts";
import { Semaphore, type Permit } from "../lib/semaphore.ts";
import { LIMITS } from "../limits.ts";
import { BatchLane } from "./http-batch-lane.ts";
import { clientClosed, nodeUnreachable, outcomeUnknown } from "./http-blob-errors.ts";
import type { BlobDamage, BlobStore, BlobWriter, SealedBlob } from "./blob-store.ts";
import { CellLanding, takeCells } from "./http-cell-landing.ts";
import { openHttpWriter } from "./http-blob-writer.ts";
import { NodeLink } from "./http-node-link.ts";
import { nodeClientMetrics } from "./metrics.ts";
import { malformedMessage } from "./wire-bytes.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";
import {
  decodeListAnswer,
  decodeReadEnd,
  decodeStatsAnswer,
  decodeVerifyAnswer,
  encodeListRequest,
  encodeMendRequest,
  encodeReadRequest,
  encodeVerifyRequest,
  WIRE_PATHS,
} from "./wire-messages.ts";

export type HttpBlobStoreOptions = {
  readonly node: NodeName;
  /** `http://host:port`, which may change; null while nobody knows where the node is. */
  readonly addressOf: () => string | null;
  readonly clusterSecret: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Told after every answer and every failure: connection refused or broken, no answer in time, 5xx, refused. */
  readonly onState?: (state: "live" | "down") => void;
};

/** Writers and large reads at a time; more wait. */
const STREAMS_MAX = 128;
const USAGE_WAIT_MS = 5_000;
const NO_PAYLOAD = Buffer.alloc(0);

/** Nothing is connected before the first call. */
export function createHttpBlobStore(options: HttpBlobStoreOptions): BlobStore {
  return new HttpBlobStore(options);
}

class HttpBlobStore implements BlobStore {
  readonly node: NodeName;
  readonly #clock: Clock;
  readonly #link: NodeLink;
  readonly #writes: BatchLane;
  readonly #reads: BatchLane;
  readonly #streams: Semaphore;
  /** Deletes under way: requests overtake each other, and what is written after a delete must not fall to it. */
  readonly #leaving = new Map<BlobId, Promise<unknown>>();
  #isClosed = false;

  constructor(options: HttpBlobStoreOptions) {
    this.node = options.node;
    this.#clock = options.clock;
    const metrics = nodeClientMetrics(options.registry);
    this.#link = new NodeLink({ ...options, metrics, onState: reportChanges(options) });
    this.#writes = new BatchLane({ link: this.#link, metrics, mutates: true });
    this.#reads = new BatchLane({ link: this.#link, metrics, mutates: false });
    this.#streams = new Semaphore(STREAMS_MAX, options.clock);
  }

  state(): NodeState {
    return this.#link.state();
  }

  async put(blob: SealedBlob, deadline: Deadline): Promise<void> {
    this.#assertOpen("store a blob");
    const bytes = blob.cells.reduce((sum, cell) => sum + cell.payload.length, 0);
    assert(bytes <= LIMITS.packedBlobBytesMax, "a blob put in one step is a small one");
    assert(blob.cells.length <= WIRE_LIMITS.packedCellsMax, "a blob put in one step has few cells");
    assert(blob.descriptor.length <= WIRE_LIMITS.descriptorBytesMax, "a descriptor is small");
    if (this.#leaving.has(blob.id)) await this.#untilDeleted(blob.id, "store a blob", deadline);
    const result = await this.#writes.submit({ op: "put", blob }, "store a blob", deadline);
    if (result.outcome !== "put") throw mismatch("put");
  }

  async openWriter(id: BlobId, waitMs: number): Promise<BlobWriter> {
    this.#assertOpen("open a writer");
    const deadline = deadlineIn(this.#clock, waitMs);
    if (this.#leaving.has(id)) await this.#untilDeleted(id, "open a writer", deadline);
    const permit = await this.#takeStream("open a writer", deadline);
    try {
      return await openHttpWriter(this.#link, id, waitMs, () => permit.release());
    } catch (cause) {
      permit.release();
      throw cause;
    }
  }

  async readCells(
    id: BlobId,
    first: number,
    count: number,
    deadline: Deadline,
    into?: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Cell[]> {
    this.#assertOpen("read cells");
    const isSmall = count === 1 && (into === undefined || into.length <= WIRE_LIMITS.batchReadBytesMax);
    if (isSmall) {
      const result = await this.#reads.submit({ op: "read", id, first, count }, "read cells", deadline, signal);
      if (signal?.aborted === true) throw outcomeUnknown(this.node, "read cells", "its caller gave it up");
      if (result.outcome === "cells") return takeCells(id, result.cells, first, into);
      if (result.outcome !== "alone") throw mismatch("read");
    }
    return await this.#readAlone({ id, first, count }, deadline, into, signal);
  }

  async describe(id: BlobId, deadline: Deadline): Promise<{ info: BlobInfo; descriptor: Uint8Array } | null> {
    this.#assertOpen("describe a blob");
    const result = await this.#reads.submit({ op: "describe", id }, "describe a blob", deadline);
    if (result.outcome === "unknown") return null;
    if (result.outcome !== "described") throw mismatch("describe");
    const { descriptor, ...info } = result.found;
    // A copy: the answer that it is part of may be a thousand times larger.
    return { info: { id, ...info }, descriptor: Buffer.from(descriptor) };
  }

  async list(after: string, limit: number, deadline: Deadline): Promise<BlobInfo[]> {
    this.#assertOpen("list blobs");
    const infos: BlobInfo[] = [];
    while (infos.length < limit) {
      const wanted = Math.min(WIRE_LIMITS.listMax, limit - infos.length);
      const request = { after: infos.at(-1)?.id ?? after, limit: wanted, waitMs: this.#waitMs(deadline) };
      const page = decodeListAnswer(
        await this.#ask("list blobs", WIRE_PATHS.list, encodeListRequest(request), deadline),
      );
      infos.push(...page);
      if (page.length < wanted) break;
    }
    return infos;
  }

  async delete(ids: readonly BlobId[], deadline: Deadline): Promise<number> {
    this.#assertOpen("delete blobs");
    const work = this.#delete(ids, deadline);
    const ended = work.catch(() => {});
    for (const id of ids) this.#leaving.set(id, ended);
    try {
      return await work;
    } finally {
      for (const id of ids) if (this.#leaving.get(id) === ended) this.#leaving.delete(id);
    }
  }

  async verify(id: BlobId, deadline: Deadline): Promise<BlobDamage[]> {
    this.#assertOpen("verify a blob");
    const request = encodeVerifyRequest({ id, waitMs: this.#waitMs(deadline) });
    return decodeVerifyAnswer(await this.#ask("verify a blob", WIRE_PATHS.verify, request, deadline), id);
  }

  async mendCell(id: BlobId, index: number, payload: Uint8Array, deadline: Deadline): Promise<void> {
    this.#assertOpen("mend a cell");
    if (this.#leaving.has(id)) await this.#untilDeleted(id, "mend a cell", deadline);
    const request = encodeMendRequest({ id, index, payload, waitMs: this.#waitMs(deadline) });
    await this.#ask("mend a cell", WIRE_PATHS.mend, request, deadline, { mutates: true });
  }

  async usage(): Promise<NodeUsage> {
    this.#assertOpen("measure usage");
    const deadline = deadlineIn(this.#clock, USAGE_WAIT_MS);
    return decodeStatsAnswer(await this.#ask("measure usage", WIRE_PATHS.stats, NO_PAYLOAD, deadline));
  }

  /** The node goes on; what is under way here fails. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#link.close();
  }

  async #untilDeleted(id: BlobId, action: string, deadline: Deadline): Promise<void> {
    await withDeadline(this.#clock, deadline, Promise.resolve(this.#leaving.get(id)), () =>
      outcomeUnknown(this.node, action, "a delete of the same blob has not ended before the deadline"),
    );
  }

  async #delete(ids: readonly BlobId[], deadline: Deadline): Promise<number> {
    const parts: BlobId[][] = [];
    for (let from = 0; from < ids.length; from += WIRE_LIMITS.deleteIdsMax) {
      parts.push(ids.slice(from, from + WIRE_LIMITS.deleteIdsMax));
    }
    const counts = await Promise.all(
      parts.map(async (part) => {
        const result = await this.#writes.submit({ op: "delete", ids: part }, "delete blobs", deadline);
        if (result.outcome !== "deleted") throw mismatch("delete");
        return result.count;
      }),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Reads in requests of its own, as many as the node makes of it. */
  async #readAlone(
    window: { readonly id: BlobId; readonly first: number; readonly count: number },
    deadline: Deadline,
    into: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Cell[]> {
    const permit = await this.#takeStream("read cells", deadline);
    try {
      const landing = new CellLanding(window.id, window.first, into);
      let hasMore = true;
      while (hasMore) {
        const first = window.first + landing.cells.length;
        const request = { id: window.id, first, count: window.count - landing.cells.length };
        await this.#link.call({
          action: "read cells",
          target: WIRE_PATHS.read,
          payload: encodeReadRequest({ ...request, waitMs: this.#waitMs(deadline) }),
          ...{ deadline, signal, mutates: false },
          place: (kind, _meta, bytes) => (kind === "cell" ? landing.place(bytes) : Buffer.allocUnsafe(bytes)),
          take: (frame) => {
            if (frame.kind === "cell") landing.take(frame);
            else hasMore = decodeReadEnd(frame.payload as Buffer);
          },
        });
        landing.assertFitted();
        hasMore &&= landing.cells.length < window.count;
      }
      return landing.cells;
    } finally {
      permit.release();
    }
  }

  /** One request with one answer of one frame. */
  async #ask(
    action: string,
    target: string,
    payload: Uint8Array,
    deadline: Deadline,
    { mutates } = { mutates: false },
  ): Promise<Buffer> {
    let answer = NO_PAYLOAD;
    await this.#link.call({
      ...{ action, target, payload, deadline, mutates },
      place: (_kind, _meta, bytes) => Buffer.allocUnsafe(bytes),
      take: (frame) => {
        answer = frame.payload as Buffer<ArrayBuffer>;
      },
    });
    return answer;
  }

  async #takeStream(action: string, deadline: Deadline): Promise<Permit> {
    const permit = await this.#streams.acquire(1, remainingMs(this.#clock, deadline));
    if (permit === null) throw nodeUnreachable(this.node, action, `${STREAMS_MAX} transfers are under way already`);
    return permit;
  }

  #waitMs(deadline: Deadline): number {
    return Math.min(Math.ceil(remainingMs(this.#clock, deadline)), WIRE_LIMITS.waitMsMax);
  }

  #assertOpen(action: string): void {
    if (this.#isClosed) throw clientClosed(this.node, action);
  }
}

function mismatch(op: string) {
  return malformedMessage(`a ${op} was answered with something else`);
}

/** Logs when a node comes and goes, and passes everything on. */
function reportChanges({ node, logger, onState }: HttpBlobStoreOptions): (state: "live" | "down") => void {
  let last: "live" | "down" = "live";
  return (state) => {
    if (state !== last) logger.info({ node, state }, "a node's answers changed");
    last = state;
    onState?.(state);
  };
}

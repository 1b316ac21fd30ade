import { WIRE_LIMITS } from "../blob/wire-limits.ts";
import { decodeReadRequest, encodeAnswerMeta, encodeCellMeta, encodeReadEnd } from "../blob/wire-messages.ts";
import type { ReadRequest } from "../blob/wire-messages.ts";
import type { Cell } from "../domain/blob.ts";
import { deadlineIn, type Deadline } from "../lib/deadline.ts";
import { LIMITS } from "../limits.ts";
import type { CellDeps } from "./cell-memory.ts";
import { answerHeaders, readRequest, takeMemory, type NodeDeps, type NodeRequest } from "./node-exchange.ts";

/** Cells that the store copies out at a time. */
const CELLS_PER_STEP = 4;

/** Cells of one blob, a frame each, up to a bounded answer; the client asks for the rest. */
export async function serveRead(deps: CellDeps, request: NodeRequest): Promise<void> {
  const wanted = decodeReadRequest(await readRequest(request, WIRE_LIMITS.requestBytesMax));
  const deadline = deadlineIn(deps.clock, wanted.waitMs);
  const cellsMost = Math.min(wanted.count, CELLS_PER_STEP);
  const bytesMost = Math.max(1, cellsMost) * LIMITS.cellBytesMax + (wanted.count > cellsMost ? TARGET : 0);
  const permit = await takeMemory(deps, bytesMost, wanted.waitMs);
  try {
    if (wanted.count === 1) await serveCell(deps, request, wanted, deadline);
    else {
      const { cells, hasMore } = await readWindow(deps, wanted, deadline);
      await sendCells(deps, request, cells, hasMore);
    }
  } finally {
    permit.release();
  }
}

const TARGET = WIRE_LIMITS.readAnswerBytesTarget;

/** The usual read of a large blob: one cell, through memory that is used again. */
async function serveCell(
  deps: CellDeps,
  request: NodeRequest,
  { id, first }: ReadRequest,
  deadline: Deadline,
): Promise<void> {
  const memory = deps.cells.take(LIMITS.cellBytesMax);
  const cells = await deps.store.readCells(id, first, 1, deadline, memory);
  await sendCells(deps, request, cells, false);
  // Not where sending failed: the system may have some of it still to let go of.
  deps.cells.give(memory);
}

async function readWindow(
  { store }: NodeDeps,
  { id, first, count }: ReadRequest,
  deadline: Deadline,
): Promise<{ cells: Cell[]; hasMore: boolean }> {
  const cells: Cell[] = [];
  let bytes = 0;
  do {
    const step = Math.min(count - cells.length, CELLS_PER_STEP);
    const read = await store.readCells(id, first + cells.length, step, deadline);
    for (const cell of read) bytes += cell.payload.length;
    cells.push(...read);
    if (read.length < step) return { cells, hasMore: false };
  } while (cells.length < count && bytes < TARGET && cells.length < WIRE_LIMITS.readAnswerCellsMax);
  return { cells, hasMore: cells.length < count };
}

async function sendCells(
  deps: NodeDeps,
  { exchange, sealer }: NodeRequest,
  cells: readonly Cell[],
  hasMore: boolean,
): Promise<void> {
  // The tags are made before anything is sent: each frame has its place, and their sizes must be known.
  const parts: Uint8Array[] = [];
  for (const { index, payload, checksum } of cells) {
    parts.push(sealer.seal("cell", encodeCellMeta(index, checksum), payload), payload);
  }
  const end = encodeReadEnd(hasMore);
  parts.push(sealer.seal("answer", encodeAnswerMeta({ state: deps.store.state(), isLast: true }), end), end);
  const chunks = gather(parts);
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  if (chunks.length === 1) return await exchange.send(200, answerHeaders(bytes), chunks[0] as Uint8Array);
  await exchange.sendStream(200, answerHeaders(bytes), eachOf(chunks), bytes);
}

/** Small parts are put together, so that each becomes no write of its own; large ones go as they are. */
function gather(parts: readonly Uint8Array[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const flush = () => {
    if (small.length > 0) chunks.push(Buffer.concat(small));
    small = [];
  };
  for (const part of parts) {
    if (part.length <= GATHER_BYTES_MAX) small.push(part);
    else {
      flush();
      chunks.push(part);
    }
  }
  flush();
  return chunks;
}

const GATHER_BYTES_MAX = 64 * 1_024;

async function* eachOf(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

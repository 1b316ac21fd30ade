import type { BlobWriter } from "../blob/blob-store.ts";
import { malformedMessage } from "../blob/wire-bytes.ts";
import type { Frame, FrameKind } from "../blob/wire-frame.ts";
import { WIRE_LIMITS } from "../blob/wire-limits.ts";
import { decodeCellMeta, parseWriteTarget } from "../blob/wire-messages.ts";
import type { Permit } from "../lib/semaphore.ts";
import { LIMITS } from "../limits.ts";
import type { CellDeps } from "./cell-memory.ts";
import { asRefusal, sendAnswer, takeMemory, type NodeRequest } from "./node-exchange.ts";

/** Cells of one writer between the socket and the disk. While they are committed the next ones arrive. */
const CELLS_IN_FLIGHT_MAX = 4;
const EMPTY = Buffer.alloc(0);

/**
 * One blob over one request. The writer is opened before the body is asked for, so a refusal costs no bytes. The blob
 * exists once its seal is durable; whatever else ends the request, a broken connection, a silent client, a wrong tag,
 * takes everything back.
 */
export async function serveWrite(deps: CellDeps, request: NodeRequest): Promise<void> {
  const { id, waitMs } = parseWriteTarget(request.query);
  const writer = await deps.store.openWriter(id, waitMs);
  deps.metrics.writerOpened();
  const reception = new BlobReception(deps, writer, waitMs);
  try {
    await receive(request, reception);
    await reception.finish();
  } catch (cause) {
    await reception.abort();
    throw asRefusal(cause);
  } finally {
    deps.metrics.writerClosed();
  }
  await sendAnswer(deps, request, EMPTY);
}

async function receive({ exchange, reader }: NodeRequest, reception: BlobReception): Promise<void> {
  for await (const piece of exchange.body) {
    for (let at = 0; at < piece.length;) {
      at = reader.push(piece, at);
      if (reader.stage === "placing") reader.place(await reception.place(reader.kind, reader.payloadBytes));
      else if (reader.stage === "complete") await reception.take(reader.finish());
    }
  }
  if (!reader.idle) throw malformedMessage("it is cut short");
}

/** What has come of one blob. */
class BlobReception {
  readonly #deps: CellDeps;
  readonly #writer: BlobWriter;
  readonly #waitMs: number;
  readonly #storing = new Set<Promise<void>>();
  /** Memory and permit of the cell that is arriving. */
  #arriving: { readonly memory: Buffer; readonly permit: Permit } | null = null;
  #cells = 0;
  #failure: { readonly cause: unknown } | null = null;
  /** How the client ended it; null while it goes on. */
  #end: { readonly descriptor: Buffer | null } | null = null;

  constructor(deps: CellDeps, writer: BlobWriter, waitMs: number) {
    this.#deps = deps;
    this.#writer = writer;
    this.#waitMs = waitMs;
  }

  async place(kind: FrameKind, bytes: number): Promise<Buffer> {
    const bytesMax = kind === "cell" ? LIMITS.cellBytesMax : kind === "seal" ? WIRE_LIMITS.descriptorBytesMax : 0;
    if (bytes > bytesMax) throw malformedMessage(`a ${kind} has ${bytes} bytes, at most ${bytesMax} are allowed`);
    if (kind !== "cell") return Buffer.allocUnsafe(bytes);
    while (this.#storing.size >= CELLS_IN_FLIGHT_MAX) await Promise.race(this.#storing);
    this.#assertSound();
    const permit = await takeMemory(this.#deps, bytes, this.#waitMs);
    this.#arriving = { permit, memory: this.#deps.cells.take(bytes) };
    return this.#arriving.memory;
  }

  async take(frame: Frame): Promise<void> {
    this.#assertSound();
    if (this.#end !== null) throw malformedMessage("something follows the end of a blob");
    switch (frame.kind) {
      case "cell":
        return this.#store(frame);
      case "seal":
        this.#end = { descriptor: frame.payload as Buffer };
        return;
      case "abort":
        this.#end = { descriptor: null };
        return;
      case "alive":
        return;
      default:
        throw malformedMessage(`a blob has a frame of kind ${frame.kind}`);
    }
  }

  /** Everything has come: does what the client asked for last. */
  async finish(): Promise<void> {
    if (this.#end === null) throw malformedMessage("a blob has neither a seal nor an abort");
    if (this.#end.descriptor === null) return await this.abort();
    await Promise.all(this.#storing);
    this.#assertSound();
    await this.#writer.seal(this.#end.descriptor);
  }

  /** Takes everything back. */
  async abort(): Promise<void> {
    this.#arriving?.permit.release();
    this.#arriving = null;
    await Promise.all(this.#storing);
    await this.#writer.abort().catch((cause: unknown) => {
      // A node that cannot remove cells has fenced itself or sweeps them when it opens: nobody ever sees them.
      this.#deps.logger.warn({ reason: String(cause) }, "cells of a broken write stay until the node starts anew");
    });
  }

  #store({ meta, payload }: Frame): void {
    const { index, checksum } = decodeCellMeta(meta);
    const arriving = this.#arriving;
    if (arriving === null || arriving.memory !== payload) throw malformedMessage("a cell has no bytes");
    if (index !== this.#cells) throw malformedMessage(`cell ${index} comes where cell ${this.#cells} belongs`);
    this.#cells += 1;
    this.#arriving = null;
    const work = this.#writer
      .writeCell(index, payload, checksum)
      // Memory of a write whose outcome is unknown may still be read by it.
      .then(
        () => this.#deps.cells.give(arriving.memory),
        (cause: unknown) => {
          this.#failure ??= { cause };
        },
      )
      .finally(() => {
        arriving.permit.release();
        this.#storing.delete(work);
      });
    this.#storing.add(work);
  }

  #assertSound(): void {
    if (this.#failure !== null) throw this.#failure.cause;
  }
}

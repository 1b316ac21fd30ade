import {
  decodeBatch,
  encodeBatchResult,
  joinBatchResults,
  type BatchItem,
  type BatchResult,
} from "../blob/wire-batch.ts";
import { WIRE_LIMITS } from "../blob/wire-limits.ts";
import { encodeAnswerMeta } from "../blob/wire-messages.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import { answerHeaders, readRequest, takeMemory, toldError, type NodeDeps, type NodeRequest } from "./node-exchange.ts";

/** A result that is ready does not wait longer than this for the others of its batch. */
const FLUSH_MS = 5;
/** Reads of one batch at a time: what turns out to be large is dropped before the next begins. */
const READS_AT_A_TIME = 8;
const BATCH_WAIT_MS = 10_000;

/**
 * Many small operations at once. All writes begin in the same turn and so share one transaction of the store. Each is
 * answered as soon as it is ready: mostly all together, else in several parts.
 */
export async function serveBatch(deps: NodeDeps, request: NodeRequest): Promise<void> {
  const bytes = Math.min(request.exchange.body.declaredBytes ?? 0, WIRE_LIMITS.batchRequestBytesMax);
  const permit = await takeMemory(deps, bytes, BATCH_WAIT_MS);
  try {
    const items = decodeBatch(await readRequest(request, WIRE_LIMITS.batchRequestBytesMax));
    deps.metrics.batch(items.length);
    const answers = new BatchAnswers(deps.clock, items.length);
    const work = startItems(deps, items, answers);
    await sendAnswers(deps, request, answers);
    await work;
  } finally {
    permit.release();
  }
}

async function sendAnswers(deps: NodeDeps, { exchange, sealer }: NodeRequest, answers: BatchAnswers): Promise<void> {
  const seal = ({ payload, isLast }: AnswerPart): Buffer => {
    const head = sealer.seal("answer", encodeAnswerMeta({ state: deps.store.state(), isLast }), payload);
    return Buffer.concat([head, payload]);
  };
  const first = await answers.next();
  if (first.isLast) {
    const body = seal(first);
    return await exchange.send(200, answerHeaders(body.length), body);
  }
  async function* parts(): AsyncGenerator<Uint8Array> {
    let part = first;
    yield seal(part);
    while (!part.isLast) {
      part = await answers.next();
      yield seal(part);
    }
  }
  await exchange.sendStream(200, answerHeaders(null), parts(), null);
}

/** Resolves when every item has been answered; the memory of the request is in use until then. */
async function startItems(deps: NodeDeps, items: readonly BatchItem[], answers: BatchAnswers): Promise<void> {
  const run = async (index: number, item: BatchItem) => {
    const result = await resultOf(deps, item);
    deps.metrics.item(item.op, result.outcome === "error" ? result.error.code : "ok");
    answers.add(encodeBatchResult(index, result));
  };
  const reads: (() => Promise<void>)[] = [];
  const others: Promise<void>[] = [];
  for (const [index, item] of items.entries()) {
    if (item.op === "read") reads.push(() => run(index, item));
    else others.push(run(index, item));
  }
  let next = 0;
  const readOn = async () => {
    for (let read = reads[next++]; read !== undefined; read = reads[next++]) await read();
  };
  await Promise.all([...others, ...Array.from({ length: READS_AT_A_TIME }, readOn)]);
}

async function resultOf(deps: NodeDeps, item: BatchItem): Promise<BatchResult> {
  try {
    return await runItem(deps, item);
  } catch (cause) {
    return { outcome: "error", error: toldError(deps, cause) };
  }
}

async function runItem({ store, clock }: NodeDeps, item: BatchItem): Promise<BatchResult> {
  const deadline = deadlineIn(clock, item.waitMs);
  switch (item.op) {
    case "put":
      await store.put(item.blob, deadline);
      return { outcome: "put" };
    case "delete":
      return { outcome: "deleted", count: await store.delete(item.ids, deadline) };
    case "describe": {
      const found = await store.describe(item.id, deadline);
      return found === null
        ? { outcome: "unknown" }
        : { outcome: "described", found: { ...found.info, descriptor: found.descriptor } };
    }
    case "read": {
      if (item.count !== 1) return { outcome: "alone" };
      const cells = await store.readCells(item.id, item.first, 1, deadline);
      const isSmall = (cells[0]?.payload.length ?? 0) <= WIRE_LIMITS.batchReadBytesMax;
      return isSmall ? { outcome: "cells", cells } : { outcome: "alone" };
    }
  }
}

type AnswerPart = { readonly payload: Buffer; readonly isLast: boolean };

/** Results in the order in which they become ready, handed on in parts. */
class BatchAnswers {
  readonly #clock: Clock;
  #ready: Buffer[] = [];
  #readyBytes = 0;
  /** Results still to come. */
  #left: number;
  #timer: Timer | null = null;
  #isDue: boolean;
  #wake: () => void = () => {};

  constructor(clock: Clock, count: number) {
    this.#clock = clock;
    this.#left = count;
    this.#isDue = count === 0;
  }

  add(result: Buffer): void {
    this.#ready.push(result);
    this.#readyBytes += result.length;
    this.#left -= 1;
    if (this.#left === 0 || this.#readyBytes >= WIRE_LIMITS.batchAnswerBytesTarget) this.#fallDue();
    else this.#timer ??= this.#clock.startTimer(FLUSH_MS, () => this.#fallDue());
  }

  async next(): Promise<AnswerPart> {
    if (!this.#isDue) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const part: Buffer[] = [];
    let bytes = 0;
    while (this.#ready.length > 0 && bytes < WIRE_LIMITS.batchAnswerBytesTarget) {
      const result = this.#ready.shift() as Buffer;
      part.push(result);
      bytes += result.length;
    }
    this.#readyBytes -= bytes;
    const isLast = this.#left === 0 && this.#ready.length === 0;
    this.#isDue = this.#left === 0 || this.#ready.length > 0;
    return { payload: joinBatchResults(part), isLast };
  }

  #fallDue(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#isDue = true;
    this.#wake();
  }
}

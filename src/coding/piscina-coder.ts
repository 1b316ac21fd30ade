import { fileURLToPath } from "node:url";
import type { Transferable } from "node:worker_threads";
import { MessageChannel } from "node:worker_threads";
import { Piscina } from "piscina";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn, withDeadline } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import { StoreError } from "../domain/errors.ts";
import type { Coder, CodingUpload, DecodeRequest, DecodeResult, DocumentTask, Stripe, UploadOptions } from "./coder.ts";
import type { Answer, CodingTask, CodingThreadSettings } from "./coding-messages.ts";
import { compactBytes, errorOf } from "./coding-messages.ts";
import type { Spent } from "./spent.ts";
import { addSpent, noneSpent } from "./spent.ts";
import { ThreadUpload } from "./thread-upload.ts";

export type PiscinaCoderOptions = {
  readonly threads: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Codes in TypeScript even where the native addon is installed. */
  readonly forceFallback?: boolean;
  /** Only for tests of worker death, see `CodingThreadSettings`. */
  readonly dieOn?: CodingThreadSettings["dieOn"];
};

/** The coder on a fixed number of threads. An upload lives in one of them from open to close. */
export function createPiscinaCoder(options: PiscinaCoderOptions): Coder {
  return new PiscinaCoder(options);
}

/** Memory in flight bounds the uploads long before this does; it only has to be out of their way. */
const TASKS_PER_THREAD_MAX = 100_000;
/** Patience with open uploads on close. */
const CLOSE_MS_MAX = 5_000;

class PiscinaCoder implements Coder {
  readonly #pool: Piscina<CodingTask, Answer>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #spent = noneSpent();
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #uploads = new Set<ThreadUpload>();
  #closing: Promise<void> | null = null;

  constructor(options: PiscinaCoderOptions) {
    const settings: CodingThreadSettings = {
      forceFallback: options.forceFallback ?? false,
      dieOn: options.dieOn ?? null,
    };
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#pool = new Piscina({
      filename: fileURLToPath(new URL("../../workers/coding.ts", import.meta.url)),
      name: "runTask",
      // Equal numbers and no idle timeout: piscina loses tasks while it shrinks.
      minThreads: options.threads,
      maxThreads: options.threads,
      concurrentTasksPerWorker: TASKS_PER_THREAD_MAX,
      recordTiming: false,
      workerData: settings,
    });
    // Emitted when a thread dies while nothing runs in it; without a listener it would end the process.
    this.#pool.on("error", (cause: unknown) => {
      this.#logger.error({ cause: textOf(cause) }, "A coding thread failed while idle; another takes its place");
    });
  }

  async openUpload(options: UploadOptions): Promise<CodingUpload> {
    if (this.#closing !== null) throw shuttingDown();
    const { port1, port2 } = new MessageChannel();
    const upload = new ThreadUpload(port1, (spent) => addSpent(this.#spent, spent));
    const ended = this.#runTask({ kind: "upload", options, port: port2 }, [port2]);
    this.#uploads.add(upload);
    // No answer is awaited here: calls wait in the port until the thread serves it.
    void ended.catch((cause: unknown) => upload.fail(cause as Error)).finally(() => this.#uploads.delete(upload));
    return upload;
  }

  async verifyAndDecode(stripe: Stripe, request: DecodeRequest): Promise<DecodeResult> {
    return (await this.#runTask({ kind: "decode", memory: stripe.memory, request }, [])) as DecodeResult;
  }

  async transform(task: DocumentTask): Promise<Uint8Array> {
    // One copy, which then moves to the thread; the caller keeps its own.
    const document = new Uint8Array(task.document);
    const moved: DocumentTask =
      task.kind === "merge" ? { ...task, document, patch: compactBytes(task.patch) } : { ...task, document };
    return (await this.#runTask({ kind: "document", task: moved }, [document.buffer])) as Uint8Array;
  }

  spent(): Readonly<Spent> {
    return { ...this.#spent };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const quiet = Promise.allSettled([
      ...this.#underWay,
      ...[...this.#uploads].map((upload) => upload.shutDown(shuttingDown())),
    ]);
    // A thread that does not come to rest is ended all the same.
    await withDeadline(this.#clock, deadlineIn(this.#clock, CLOSE_MS_MAX), quiet, () =>
      workerFailed("it did not rest"),
    ).catch(() => {});
    await this.#pool.destroy();
  }

  /** Runs one task to its end. @throws {StoreError} what the task answered, or `worker_failed` */
  async #runTask(task: CodingTask, transferList: Transferable[]): Promise<unknown> {
    if (this.#closing !== null) throw shuttingDown();
    const run = this.#pool.run(task, { transferList });
    this.#underWay.add(run);
    try {
      const answer = await run.catch((cause: unknown) => {
        this.#logger.error({ cause: textOf(cause), task: task.kind }, "A coding thread died under a task");
        throw workerFailed(textOf(cause), cause);
      });
      if (!answer.ok) throw errorOf(answer);
      addSpent(this.#spent, answer.spent);
      return answer.value;
    } finally {
      this.#underWay.delete(run);
    }
  }
}

function shuttingDown(): StoreError {
  return new StoreError("shutting_down", "Cannot code: the coding threads are closing", { retriable: true });
}

function workerFailed(state: string, cause?: unknown): StoreError {
  const message = `A coding thread failed (${state}): what ran in it must be done again`;
  return new StoreError("worker_failed", message, { retriable: true, cause });
}

function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

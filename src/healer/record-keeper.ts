/**
 * Sees to it that nodes keep what metadata alone knows, within a stated time: it hears of every record that changes, and
 * has the last state of each key written to nodes now and then. What it misses (a change of leaders, too many changes at
 * once) the audit finds.
 */
import { isStoreError } from "../domain/errors.ts";
import { needsKeeping } from "../domain/kept-record.ts";
import type { StoredRecord } from "../domain/record.ts";
import type { WorkOf } from "../domain/work.ts";
import type { BackgroundWork, StepResult, WorkProgress } from "../lib/background-work.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import type { Executor } from "./work-executor.ts";

export type RecordKeeperDeps = {
  readonly clock: Clock;
  readonly metadata: MetadataStore;
  readonly queue: WorkQueue;
  readonly timeouts: { readonly metadataMs: number };
  readonly keepRecordsMs: number;
  readonly keep: Executor<"keep_record">;
};

export type RecordKeeper = BackgroundWork & AsyncDisposable & { figures(): Readonly<Record<string, number>> };

const WAITING_MAX = 100_000;
const KEYS_PER_STEP = 256;
const KEYS_AT_ONCE = 16;

export function createRecordKeeper(deps: RecordKeeperDeps): RecordKeeper {
  const waiting = new Map<string, WorkOf<"keep_record">>();
  let keptCount = 0;
  let missedCount = 0;
  const unwatch = deps.metadata.watch(({ record }: StoredRecord) => {
    const { bucket, key, version } = record;
    const name = `${bucket}\0${key}`;
    if (!needsKeeping(record)) return void waiting.delete(name);
    if (waiting.size >= WAITING_MAX && !waiting.has(name)) missedCount += 1;
    else waiting.set(name, { kind: "keep_record", urgency: 2, bucket, key, version });
  });

  async function keepOne(work: WorkOf<"keep_record">, signal: AbortSignal): Promise<void> {
    try {
      if ((await deps.keep(work, { signal })).outcome === "done") keptCount += 1;
      else await deps.queue.add(work, soon());
    } catch (cause) {
      if (!isStoreError(cause)) throw cause;
      missedCount += 1;
    }
  }

  const soon = () => deadlineIn(deps.clock, deps.timeouts.metadataMs);

  return {
    name: "keep",
    progress: (): WorkProgress | null =>
      waiting.size === 0 ? null : { done: keptCount, total: keptCount + waiting.size, unit: "records" },
    figures: () => ({ recordsKept: keptCount, recordsWaiting: waiting.size, recordsMissed: missedCount }),
    async step(signal: AbortSignal): Promise<StepResult> {
      // Healers follow the metadata only while they read it: this brings in what has changed since.
      if (waiting.size === 0) await deps.metadata.scan(null, 1, soon());
      const due = [...waiting].slice(0, KEYS_PER_STEP);
      for (const [name] of due) waiting.delete(name);
      const works = due.map(([, work]) => work).values();
      const keepAll = async () => {
        for (const work of works) if (!signal.aborted) await keepOne(work, signal);
      };
      await Promise.all(Array.from({ length: KEYS_AT_ONCE }, keepAll));
      return waiting.size > 0 ? { state: "busy" } : { state: "idle", againInMs: deps.keepRecordsMs / 2 };
    },
    async [Symbol.asyncDispose]() {
      unwatch();
    },
  };
}

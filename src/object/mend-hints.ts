import { isStoreError } from "../domain/errors.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import { contentSetsOf, blobsNeeded } from "../domain/manifest.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { Urgency, Work } from "../domain/work.ts";
import { workName } from "../domain/work.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";

/** What the object paths tell healers on the way: never waited for, and never a reason for a request to fail. */
export type MendHints = {
  /** A write was committed with fewer blobs than planned. */
  noteDirty(record: ObjectRecord): void;
  /** A reader found that a node lacks a blob that it should have, or has other bytes than it should. */
  noteDamaged(blob: PlacedBlob): void;
};

export const noHints: MendHints = { noteDirty() {}, noteDamaged() {} };

export type MendHintDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly queue: { add(work: Work, deadline: { readonly atMs: number }): Promise<void> };
};

/** The same is told again only after this time: a damaged object that is read a thousand times a second is one piece of work. */
const AGAIN_MS = 30_000;
const TOLD_MAX = 10_000;
/** Hints on their way. More of them are dropped: what is lost the audit and the scrub find. */
const UNDER_WAY_MAX = 256;
const QUEUE_MS = 5_000;

export function createMendHints(deps: MendHintDeps): MendHints {
  const toldAtMs = new Map<string, number>();
  let underWay = 0;
  const tell = (work: Work) => {
    const nowMs = deps.clock.monotonicMs();
    const name = workName(work);
    const toldMs = toldAtMs.get(name);
    if ((toldMs !== undefined && nowMs - toldMs < AGAIN_MS) || underWay >= UNDER_WAY_MAX) return;
    toldAtMs.delete(name);
    toldAtMs.set(name, nowMs);
    if (toldAtMs.size > TOLD_MAX) toldAtMs.delete(toldAtMs.keys().next().value as string);
    underWay += 1;
    deps.queue
      .add(work, deadlineIn(deps.clock, QUEUE_MS))
      .catch((cause: unknown) => {
        toldAtMs.delete(name);
        if (!isStoreError(cause)) throw cause;
        deps.logger.debug({ kind: work.kind, code: cause.code }, "a hint did not reach the work queue");
      })
      .finally(() => {
        underWay -= 1;
      });
  };
  return {
    noteDirty({ bucket, key, manifest }) {
      const urgency = contentSetsOf(manifest).reduce<Urgency>((most, set) => minOf(most, urgencyOf(set)), 2);
      const work: Work = { kind: "mend", urgency, reason: "dirty", suspects: [], bucket, key };
      // Each write is news, unlike each read of a damaged blob.
      toldAtMs.delete(workName(work));
      tell(work);
    },
    noteDamaged: (blob) => tell({ kind: "identify", urgency: 1, blob }),
  };
}

/** By how many more nodes the set can lose. */
function urgencyOf({ nodes, redundancy }: BlobSet): Urgency {
  const spare = nodes.filter((node) => node !== null).length - blobsNeeded(redundancy);
  return spare <= 0 ? 0 : spare === 1 ? 1 : 2;
}

function minOf(a: Urgency, b: Urgency): Urgency {
  return a < b ? a : b;
}

/**
 * The leader's part in heat: hears how often gateways read which objects, and has hot ones given more copies until they
 * cool. What a leader before it has given, it finds by going through the records: copies that nobody reads are taken back.
 */
import { isStoreError } from "../domain/errors.ts";
import type { BucketName, ObjectKey } from "../domain/ids.ts";
import { codedContentOf } from "../domain/manifest.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { HeatReports } from "../heat/heat-reports.ts";
import type { BackgroundWork, StepResult } from "../lib/background-work.ts";
import { metadataDeadline } from "../object/commit-record.ts";
import type { ObjectDeps } from "../object/deps.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import type { HeatBounds, HotObject } from "./heat-plan.ts";
import { nameOf, planHeat } from "./heat-plan.ts";

export type HeatTrackDeps = Pick<ObjectDeps, "clock" | "metadata" | "timeouts" | "settingsOf"> & {
  readonly queue: Pick<WorkQueue, "add">;
  readonly reports: HeatReports;
  readonly bounds: Omit<HeatBounds, "hotMax">;
  /** How often it goes through all records. */
  readonly scanEveryMs: number;
};

export type HeatTrack = BackgroundWork & { figures(): Readonly<Record<string, number>> };

/** Objects that have more copies at a time: memory and queue are bounded. */
const HOT_MAX = 1_000;
const RECORDS_PER_STEP = 500;
const LOOK_AGAIN_MS = 5_000;

export function createHeat(deps: HeatTrackDeps): HeatTrack {
  const bounds: HeatBounds = { ...deps.bounds, hotMax: HOT_MAX };
  let hot: readonly HotObject[] = [];
  let askCount = 0;
  let after: { readonly bucket: BucketName; readonly key: ObjectKey } | null = null;
  let nextScanAtMs = deps.clock.monotonicMs();

  /** What could not be asked for is asked for in the next step. */
  async function ask(asks: readonly HotObject[]): Promise<boolean> {
    for (const [index, { bucket, key, version, copies }] of asks.entries()) {
      try {
        await deps.queue.add({ kind: "heat", urgency: 2, bucket, key, version, copies }, metadataDeadline(deps));
        askCount += 1;
      } catch (cause) {
        const unasked = new Map(asks.slice(index).map((one) => [nameOf(one), { ...one, askedAtMs: null }]));
        hot = [...hot.filter((one) => !unasked.has(nameOf(one))), ...unasked.values()];
        if (isStoreError(cause, "overloaded")) return false;
        throw cause;
      }
    }
    return true;
  }

  /** One page of records. */
  async function scan(): Promise<void> {
    const page = await deps.metadata.scan(after, RECORDS_PER_STEP, metadataDeadline(deps));
    const nowMs = deps.clock.monotonicMs();
    const known = new Set(hot.map(nameOf));
    const found = page.flatMap(({ record }): HotObject[] => {
      const copies = moreCopiesOf(record, deps.settingsOf(record.bucket).replicas);
      const { bucket, key, version } = record;
      if (copies <= 0 || known.has(nameOf(record))) return [];
      return [{ bucket, key, version, copies, askedAtMs: nowMs, coolSinceMs: nowMs }];
    });
    // The others are found the next time.
    hot = [...hot, ...found.slice(0, Math.max(0, HOT_MAX - hot.length))];
    const last = page.at(-1)?.record;
    after = last === undefined || page.length < RECORDS_PER_STEP ? null : { bucket: last.bucket, key: last.key };
    if (after === null) nextScanAtMs = nowMs + deps.scanEveryMs;
  }

  return {
    name: "heat",
    progress: () => null,
    figures: () => ({ hotObjects: hot.length, asked: askCount }),
    async step(): Promise<StepResult> {
      const nowMs = deps.clock.monotonicMs();
      const plan = planHeat({ reports: deps.reports.collect(), hot, nowMs }, bounds);
      hot = plan.hot;
      if (!(await ask(plan.asks))) return { state: "throttled", againInMs: LOOK_AGAIN_MS };
      if (after === null && nowMs < nextScanAtMs) return { state: "idle", againInMs: LOOK_AGAIN_MS };
      await scan();
      return { state: "busy" };
    },
  };
}

/** By what its bucket's objects are written with today: whoever takes the copies back looks at what this one's write gave it. */
function moreCopiesOf({ state, manifest }: ObjectRecord, replicas: number): number {
  if (state !== "object") return 0;
  if (manifest.strategy === "replication") return manifest.body.nodes.length - replicas;
  return codedContentOf(manifest)?.copy?.nodes.length ?? 0;
}

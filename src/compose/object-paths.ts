import { Registry } from "prom-client";
import { createCoder } from "../coding/adaptive-coder.ts";
import { StripePool } from "../coding/stripe-pool.ts";
import type { Config } from "../config.ts";
import { bucketSettings } from "../config.ts";
import { createTxidSource } from "../domain/ids.ts";
import { registerCodingMetrics, registerProcessMetrics } from "../gateway/metrics.ts";
import type { ObjectApi } from "../gateway/object-api.ts";
import type { HeatReporter } from "../heat/heat-reports.ts";
import { Alarms } from "../lib/alarms.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { ActiveWrites } from "../object/active-writes.ts";
import { ContentCache } from "../object/content-cache.ts";
import { deleteObject } from "../object/delete.ts";
import type { ObjectDeps } from "../object/deps.ts";
import { readFields } from "../object/fields.ts";
import { getObject } from "../object/get.ts";
import { createMendHints } from "../object/mend-hints.ts";
import { headObject } from "../object/head.ts";
import { startHeatReporting } from "../object/heat-reporting.ts";
import { listObjects } from "../object/list.ts";
import { createObjectMetrics, registerCacheMetrics } from "../object/metrics.ts";
import { NodeLatency } from "../object/node-latency.ts";
import { ObjectPatcher } from "../object/patch.ts";
import { putObject } from "../object/put.ts";
import { ReadHeat } from "../object/read-heat.ts";
import { ReadPins } from "../object/read-pins.ts";
import { Releaser } from "../object/release.ts";
import { reserveMemory } from "../object/reserve-memory.ts";
import { undeleteObject } from "../object/undelete.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import type { System } from "./system.ts";

/** How long the blobs of a replaced version stay for readers that have its record but not yet its first bytes. */
const RELEASE_DELAY_MS = 5_000;

/** Of the reads that make an object hot: with fewer in one process there would have to be many that read it. */
const HEAT_REPORTED_SHARE_MIN = 0.1;

export function createRegistry(): Registry {
  const registry = new Registry();
  registerProcessMetrics(registry);
  return registry;
}

type Parts = Pick<
  ObjectDeps,
  "processName" | "metadata" | "wal" | "membership" | "nodes" | "pins" | "remotePins" | "locality" | "cache"
> & {
  readonly registry: Registry;
  readonly queue: WorkQueue;
};

/** What the object paths need, around the ports of one store. The coder is closed with `open`. */
export function createObjectDeps(
  config: Config,
  { clock, random, logger, faults }: System,
  parts: Parts,
  open: AsyncDisposableStack,
): ObjectDeps {
  const { timeouts } = config;
  const { registry, queue, ...ports } = parts;
  const coder = createCoder({ threads: config.threads, clock, logger });
  open.defer(() => coder.close());
  registerCodingMetrics(registry, coder);
  const active = new ActiveWrites();
  const waits = { releaseDelayMs: RELEASE_DELAY_MS, nodeMs: timeouts.nodeMs };
  return {
    ...{ ...ports, coder, clock, random, logger, faults, active, timeouts },
    releaser: new Releaser({ clock, logger, ...ports, active, ...waits }),
    hints: createMendHints({ clock, logger, queue }),
    latency: new NodeLatency(clock),
    heat: new ReadHeat(clock),
    alarms: new Alarms(clock),
    metrics: createObjectMetrics(registry),
    stripes: new StripePool({ keptBytesMax: config.memory.inFlightBytesMax / 4 }),
    memory: new Semaphore(config.memory.inFlightBytesMax, clock),
    nextTxid: createTxidSource(clock, random),
    settingsOf: (bucket) => bucketSettings(config, bucket),
    objectBytesMax: config.http.objectBytesMax,
  };
}

/** Tells of what is read often, where hot objects are to get more copies. */
export function reportHeat(config: Config, { clock, heat }: ObjectDeps, reporter: HeatReporter): Disposable {
  const { heatCopiesMax, heatReadsMin } = config.healing;
  if (heatCopiesMax === 0) return { [Symbol.dispose]() {} };
  return startHeatReporting({ clock, heat, reporter, readsMin: heatReadsMin * HEAT_REPORTED_SHARE_MIN });
}

export function createReadPins({ clock }: System): ReadPins {
  return new ReadPins(clock);
}

export function createContentCache(config: Config, { clock }: System, registry: Registry): ContentCache {
  const cache = new ContentCache(clock, config.cache);
  registerCacheMetrics(registry, cache);
  return cache;
}

/** The object paths as the front doors call them. */
export function bindObjectApi(deps: ObjectDeps): ObjectApi {
  const patcher = new ObjectPatcher(deps);
  return {
    reserve: (bytes) => reserveMemory(deps, bytes),
    put: (request) => putObject(deps, request),
    get: (request) => getObject(deps, request),
    head: (request) => headObject(deps, request),
    readFields: (request) => readFields(deps, request),
    patch: (request) => patcher.patch(request),
    delete: (request) => deleteObject(deps, request),
    undelete: (request) => undeleteObject(deps, request),
    list: (bucket, options) => listObjects(deps, bucket, options),
  };
}

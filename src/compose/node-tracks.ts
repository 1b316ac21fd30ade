/** What each node does for itself, whoever leads. */
import { join } from "node:path";
import type { Registry } from "prom-client";
import type { BlobStore } from "../blob/blob-store.ts";
import type { VolumeCompaction } from "../blob/volume-compaction.ts";
import type { Config } from "../config.ts";
import type { ControlsWatch } from "../desk/controls-watch.ts";
import { watchControls } from "../desk/controls-watch.ts";
import { openNatsHealingStore } from "../desk/nats-healing-store.ts";
import { tellTracks } from "../desk/nats-track-reports.ts";
import { WholeFile } from "../desk/whole-file.ts";
import { createCompact } from "../healer/compact.ts";
import { createScrub } from "../healer/scrub.ts";
import { NEVER_SCRUBBED, scrubStateCodec } from "../healer/scrub-state.ts";
import { createTrackMetrics } from "../healer/track-metrics.ts";
import type { RunningTracks, TracksOptions, TrackWork } from "../healer/tracks.ts";
import { runTracks } from "../healer/tracks.ts";
import { Throttle } from "../lib/throttle.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { openNatsWorkQueue } from "../work/nats-work-queue.ts";
import type { WorkQueue } from "../work/work-queue.ts";
import type { System } from "./system.ts";

export type NodeTrackParts = {
  readonly config: Config;
  readonly system: Pick<System, "clock" | "logger">;
  readonly store: BlobStore;
  readonly compaction: VolumeCompaction;
  readonly queue: WorkQueue;
  readonly controls: Pick<ControlsWatch, "watch">;
  readonly onStep?: TracksOptions["onStep"];
};

/** Runs the tracks of one node until disposed. */
export function startNodeTracks(parts: NodeTrackParts): RunningTracks {
  const { config, store, compaction, queue, controls, onStep } = parts;
  const { clock, logger } = parts.system;
  const { scrubBytesPerSecond, scrubEveryMs, compactBytesPerSecond, compactBelow: below } = config.healing;
  const throttle = new Throttle(clock, scrubBytesPerSecond);
  const state = new WholeFile(join(config.dataDir, "healing"), `scrub-${store.node}`, scrubStateCodec, NEVER_SCRUBBED);
  const waitMs = config.timeouts.nodeMs;
  const scrub = createScrub({ clock, store, queue, throttle, waitMs, state, everyMs: scrubEveryMs });
  const copying = new Throttle(clock, compactBytesPerSecond);
  const compact = createCompact({ compaction, logger, throttle: copying, below, waitMs });
  const tracks: readonly TrackWork[] = [
    {
      track: "scrub",
      works: [scrub],
      throttle,
      figures: () => scrub.figures(),
      runNow: () => scrub.runNow(),
    },
    { track: "compact", works: [compact], throttle: copying, figures: () => compact.figures() },
  ];
  const told = onStep === undefined ? {} : { onStep };
  return runTracks(tracks, { clock, logger, controls, processName: store.node, ...told });
}

/** Runs the tracks of a node of a cluster, and tells of them, until `open` is disposed. @throws {StoreError} `nats_unavailable` (retriable) */
export async function openNodeTracks(
  config: Config,
  system: System,
  parts: Pick<NodeTrackParts, "store" | "compaction"> & { readonly link: NatsLink; readonly registry: Registry },
  open: AsyncDisposableStack,
): Promise<void> {
  const { link, store, compaction, registry } = parts;
  const [healing, queue] = await Promise.all([openNatsHealingStore(link), openNatsWorkQueue(link)]);
  open.defer(() => healing.close());
  open.defer(() => queue.close());
  const controls = watchControls(healing, system);
  open.use(controls);
  await controls.refresh();
  const { onStep } = createTrackMetrics(registry, () => tracks.reports());
  const tracks = startNodeTracks({ config, system, store, compaction, queue, controls, onStep });
  open.use(tracks);
  open.use(tellTracks(link, () => tracks.reports()));
}

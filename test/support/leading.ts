/** A leader of healing over nodes in memory, with an audit that finds what the test tells it to. */
import { MemoryBlobStore } from "../../src/blob/memory-blob-store.ts";
import { watchControls } from "../../src/desk/controls-watch.ts";
import { controlsCodec, ledgerCodec } from "../../src/desk/healing-codec.ts";
import { EMPTY_LEDGER } from "../../src/desk/healing-ledger.ts";
import type { HealingStore } from "../../src/desk/healing-store.ts";
import { StoreError } from "../../src/domain/errors.ts";
import type { HealingControls, TrackReport } from "../../src/domain/healing.ts";
import { NO_LOSS } from "../../src/domain/healing.ts";
import type { NodeName, Txid } from "../../src/domain/ids.ts";
import type { Leading, LeadingParts, Term } from "../../src/healer/healing.ts";
import { startLeading } from "../../src/healer/healing.ts";
import type { AuditOutcome, AuditRequest } from "../../src/healer/overseer.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Throttle } from "../../src/lib/throttle.ts";
import { createStaticMembership } from "../../src/membership/static-membership.ts";
import { createMemoryWorkQueue } from "../../src/work/memory-work-queue.ts";

/** Keeps bytes, as the others do. */
export function createMemoryHealingStore(): HealingStore {
  let controls = controlsCodec.encode({});
  let ledger = ledgerCodec.encode(EMPTY_LEDGER);
  return {
    readControls: async () => controlsCodec.decode(controls),
    async changeControls(change) {
      controls = controlsCodec.encode(change(controlsCodec.decode(controls)));
      return controlsCodec.decode(controls);
    },
    async changeLedger(term, change) {
      const found = ledgerCodec.decode(ledger);
      if (found.term > term) throw new StoreError("healing_unavailable", "Another leads", { retriable: true });
      ledger = ledgerCodec.encode({ ...change(found), term });
      return ledgerCodec.decode(ledger);
    },
    close: () => Promise.resolve(),
  };
}

export const NOTHING_FOUND: AuditOutcome = { lossOf: () => NO_LOSS, orphans: 0, queued: 0, again: false };

export type TestLeading = AsyncDisposable & {
  readonly leading: Leading;
  readonly membership: ReturnType<typeof createStaticMembership>;
  readonly queue: LeadingParts["queue"];
  /** Scopes of the audits asked for, in words. */
  readonly audits: string[];
  /** What nodes tell of their tracks. */
  reports: readonly TrackReport[];
  /** Blobs that records name on whatever node. */
  named: number;
  /** Nodes drained, undrained and removed, in words. */
  readonly told: string[];
  readonly controls: () => HealingControls;
};

export type LeadingOptions = {
  readonly clock: Clock;
  readonly store?: HealingStore;
  readonly term?: Term;
  readonly audit?: (request: AuditRequest) => Promise<AuditOutcome>;
  readonly bounds?: Partial<LeadingParts["bounds"]>;
};

const BOUNDS = { rebuildAfterMs: 60_000, auditEveryMs: 3_600_000, firstAuditMs: 30_000 };

/** Nodes n1, n2 and n3; a first audit after 30 s, a node is given up after a minute. */
export async function openTestLeading(options: LeadingOptions): Promise<TestLeading> {
  const { clock, store = createMemoryHealingStore(), term = { token: 1, isHeld: () => true } } = options;
  const names = ["n1", "n2", "n3"] as NodeName[];
  const membership = createStaticMembership(
    names.map((name) => ({ name, state: "live", region: "r", zone: "z", weight: 1 })),
  );
  const queue = createMemoryWorkQueue({ clock });
  const controls = watchControls(store, { clock, logger: silentLogger });
  const audits: string[] = [];
  const told: string[] = [];
  let ids = 0;
  const opened = { reports: [] as readonly TrackReport[], named: 0 };
  const leading = await startLeading(
    {
      deps: {
        ...{ processName: "healer-1", clock, logger: silentLogger, membership },
        nodes: new Map(names.map((name) => [name, new MemoryBlobStore(name, clock)])),
        nextTxid: () => `id-${(ids += 1)}` as Txid,
        timeouts: { metadataMs: 1_000, nodeMs: 1_000, stragglerMs: 1_000, memoryMs: 1_000 },
      },
      ...{ queue, store, controls, tracks: [], mendedCount: () => 0 },
      audit(request) {
        audits.push(request.kind === "all" ? "all" : request.node);
        return options.audit?.(request) ?? Promise.resolve(NOTHING_FOUND);
      },
      reportsOfOthers: () => Promise.resolve(opened.reports),
      verifyThrottle: new Throttle(clock, null),
      bounds: { ...BOUNDS, ...options.bounds },
      async setDraining(node, draining) {
        membership.setDraining(node, draining);
        told.push(`${draining ? "drain" : "undrain"} ${node}`);
      },
      countNamed: () => Promise.resolve(opened.named),
      removeNode: async (node) => void told.push(`remove ${node}`),
    },
    term,
  );
  return Object.assign(opened, {
    ...{ leading, membership, queue, audits, told },
    controls: () => controls.current(),
    async [Symbol.asyncDispose]() {
      await leading[Symbol.asyncDispose]();
      controls[Symbol.dispose]();
      await queue.close();
      await membership.close();
    },
  });
}

import { isStoreError } from "../domain/errors.ts";
import type { Txid } from "../domain/ids.ts";
import { REVISION_NONE } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { PlacedBlob } from "../domain/manifest.ts";
import { placeOf } from "../domain/manifest.ts";
import type { ObjectRecord, StoredRecord } from "../domain/record.ts";
import { withFence } from "../domain/record.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { MetadataStore } from "../metadata/metadata-store.ts";
import type { ActiveWrites } from "../object/active-writes.ts";
import { VERSION_NONE } from "../object/commit-record.ts";
import type { ObjectMetrics } from "../object/metrics.ts";
import type { ReadPins } from "../object/read-pins.ts";
import { blobSetName } from "../object/read-pins.ts";
import { deleteBlobs } from "../object/release.ts";
import type { Wal, WalEntry } from "../wal/wal.ts";
import type { FindDeps, Reach } from "./find-blobs.ts";
import { findBlobs, reachOf } from "./find-blobs.ts";
import type { Look } from "./recover-looks.ts";
import { Looks } from "./recover-looks.ts";
import type { RecoverBounds, RecoverPlan } from "./recover-plan.ts";
import { cleanUpIntent, isCleanUp, planRecovery } from "./recover-plan.ts";

export type RecoverDeps = FindDeps & {
  readonly metadata: MetadataStore;
  readonly wal: Wal;
  readonly metrics: ObjectMetrics;
  /** Writes of this process under way. */
  readonly active: ActiveWrites;
  readonly pins: Pick<ReadPins, "isPinned">;
  /** What readers in other processes stream from. */
  readonly remotePins?: { isPinned(name: string): boolean };
};

export type RecoverOptions = {
  /** No process but this one can still commit what it finds. */
  readonly writerDead: boolean;
  /** Younger intents are left alone: readers may still be about to begin on what their writes replaced. */
  readonly ageMsMin: number;
};

export type RecoverSummary = {
  readonly finished: number;
  readonly resurrected: number;
  readonly rolledBack: number;
  readonly left: number;
};

export type RecoverPolicy = {
  readonly writerDead: boolean;
  readonly bounds: RecoverBounds;
  /** Whether an intent may be looked at by now. */
  isDue(entry: WalEntry): boolean;
  /** Asked before every effect: false ends the round without another one. */
  mayAct(): boolean;
};

export type RoundSummary = {
  readonly counts: RecoverSummary;
  /** Intents that the round met open, and the age of the oldest. */
  readonly openCount: number;
  readonly oldestMs: number;
};

type Counts = { -readonly [Outcome in keyof RecoverSummary]: number };
type Outcome = keyof RecoverSummary;
/** An intent that is done with: settled, or left to remember what `cleanUp` names. */
type Done = { readonly entry: WalEntry; readonly outcome: Outcome; readonly cleanUp: Intent | null };

const PAGE_INTENTS = 256;
/** Keys that are worked on side by side. */
const KEYS_AT_ONCE = 16;
/** One process is the whole store: nobody else reads or writes, and a node that is away comes back with it. */
export const ALONE: RecoverBounds = {
  patienceMs: Number.POSITIVE_INFINITY,
  lookAgainMs: 0,
  releaseMs: 0,
  restMs: 30_000,
};

/** Settles the intents that a store in one process left behind. Idempotent: a crash in between repeats harmlessly. */
export async function recoverIntents(deps: RecoverDeps, options: RecoverOptions): Promise<RecoverSummary> {
  const { writerDead, ageMsMin } = options;
  const policy = { writerDead, bounds: ALONE, isDue: ({ ageMs }: WalEntry) => ageMs >= ageMsMin, mayAct: () => true };
  return (await recoverRound(deps, policy, new Looks(deps.clock))).counts;
}

/** Looks once at every open intent that is due, those of one key in their order. */
export async function recoverRound(deps: RecoverDeps, policy: RecoverPolicy, looks: Looks): Promise<RoundSummary> {
  const counts: Counts = { finished: 0, resurrected: 0, rolledBack: 0, left: 0 };
  const open = new Set<Txid>();
  const reach = reachOf(deps);
  let oldestMs = 0;
  for (let after = 0; policy.mayAct();) {
    const page = await deps.wal.readOpen(after, PAGE_INTENTS, deadline(deps));
    const last = page.at(-1);
    if (last === undefined) {
      looks.keepOnly(open);
      break;
    }
    after = last.sequence;
    // What was appended again since the round began is left to the next one, or a round might never end.
    const fresh = page.filter(({ intent }) => !open.has(intent.txid));
    for (const { intent, ageMs } of fresh) {
      open.add(intent.txid);
      oldestMs = Math.max(oldestMs, ageMs);
    }
    for (const outcome of await recoverPage({ deps, policy, looks, reach }, fresh)) {
      counts[outcome] += 1;
      deps.metrics.recovered.inc({ outcome });
    }
  }
  return { counts, openCount: open.size, oldestMs };
}

type Round = {
  readonly deps: RecoverDeps;
  readonly policy: RecoverPolicy;
  readonly looks: Looks;
  readonly reach: Reach;
};

async function recoverPage(round: Round, page: readonly WalEntry[]): Promise<Outcome[]> {
  const { deps, policy, looks } = round;
  const due = page.filter(
    (entry) => !deps.active.has(entry.intent.txid) && policy.isDue(entry) && looks.isTime(looks.of(entry)),
  );
  // All workers draw from the one iterator.
  const groups = Map.groupBy(due, ({ intent }) => `${intent.bucket}\0${intent.key}`).values();
  const done: Done[] = [];
  const work = async () => {
    for (const group of groups) {
      for (const entry of group) {
        const outcome = await recoverOrLeave(round, entry);
        if (outcome !== "left") done.push(outcome);
      }
    }
  };
  await Promise.all(Array.from({ length: KEYS_AT_ONCE }, work));
  const ended = await endIntents(round, page, done);
  return [...ended.map(({ outcome }) => outcome), ...Array<"left">(due.length - ended.length).fill("left")];
}

/** What cannot be settled now, for whatever operating failure, holds up no other intent. */
async function recoverOrLeave(round: Round, entry: WalEntry): Promise<Done | "left"> {
  const look = round.looks.of(entry);
  try {
    const done = await recoverIntent(round, entry, look);
    if (done === "later") round.looks.backOff(look);
    return done === "later" || done === "look_again" ? "left" : done;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    round.looks.backOff(look);
    round.deps.logger.warn({ txid: entry.intent.txid, code: cause.code }, "an open intent could not be settled yet");
    return "left";
  }
}

async function recoverIntent(round: Round, entry: WalEntry, look: Look): Promise<Done | "later" | "look_again"> {
  const { deps, policy, looks, reach } = round;
  const { intent, ageMs } = entry;
  if (!policy.mayAct()) return "later";
  const findings = await findBlobs(deps, intent, reach);
  const stored = await deps.metadata.get(intent.bucket, intent.key, deadline(deps));
  const { writerDead, bounds } = policy;
  const plan = planRecovery({
    ...{ ...findings, ...looks.note(look, entry, stored), intent, stored, writerDead, ageMs, bounds },
  });
  if (plan.action === "wait") return "later";
  if (!policy.mayAct() || !(await decide(deps, plan, intent, stored))) return "later";
  looks.decided(look, plan);

  const record = plan.action === "resurrect" ? plan.record : (stored?.record ?? null);
  const { free, missed, pinned } = await sortRemovable(deps, plan.remove, record);
  if (!policy.mayAct() || !(await deleteBlobs({ ...deps, nodeMs: deps.waitMs }, free))) return "later";
  if (pinned.length > 0) return "later";
  if (plan.after.step === "look_again") {
    looks.lookAgain(look, plan.after.inMs);
    return "look_again";
  }
  const remembered = [...missed, ...(plan.after.step === "clean_up" ? plan.after.blobs : [])];
  if (isCleanUp(intent) && remembered.length === intent.replaces.length) return "later";
  const outcome = plan.action === "roll_back" ? "rolledBack" : (look.outcome ?? "finished");
  return { entry, outcome, cleanUp: remembered.length === 0 ? null : cleanUpIntent(intent, remembered) };
}

/** Makes the outcome of the write stand in the record. False when the record has changed meanwhile: the plan is void. */
async function decide(
  deps: RecoverDeps,
  plan: Exclude<RecoverPlan, { action: "wait" }>,
  intent: Intent,
  stored: StoredRecord | null,
): Promise<boolean> {
  const ifRevision = stored?.revision ?? REVISION_NONE;
  if (plan.action === "resurrect") {
    const change = { record: plan.record, ifRevision, op: "put" as const };
    return (await deps.metadata.commit(change, deadline(deps))).ok;
  }
  if (plan.action === "finish" || !plan.fence) return true;
  // The late commit of the writer then conflicts and gives up. If it was faster, it is that very conflict here.
  const record = withFence(stored?.record ?? emptyRecord(deps, intent), intent.txid);
  return (await deps.metadata.commit({ record, ifRevision }, deadline(deps))).ok;
}

/**
 * Settles what is done with. The writer may have appended its intent again before it committed, with other blobs to
 * free: then this one is not the whole of it, and the next round sees the new one.
 */
async function endIntents(round: Round, page: readonly WalEntry[], done: readonly Done[]): Promise<readonly Done[]> {
  const { deps, policy } = round;
  const [first] = page;
  if (done.length === 0 || first === undefined) return [];
  try {
    const latest = await deps.wal.readOpen(first.sequence - 1, PAGE_INTENTS, deadline(deps));
    const open = new Set(latest.map(({ sequence }) => sequence));
    const ended = done.filter(({ entry }) => open.has(entry.sequence));
    if (!policy.mayAct()) return [];
    const cleanUps = ended.flatMap(({ cleanUp }) => (cleanUp === null ? [] : [cleanUp]));
    await Promise.all(cleanUps.map((cleanUp) => deps.wal.append(cleanUp, deadline(deps))));
    const settled = ended.filter(({ cleanUp }) => cleanUp === null).map(({ entry }) => entry.intent.txid);
    if (settled.length > 0) await deps.wal.settle(settled, deadline(deps));
    for (const { entry, outcome, cleanUp } of ended) {
      const { txid, bucket } = entry.intent;
      deps.logger.info(
        { txid, bucket, outcome, blobsAway: cleanUp?.replaces.length ?? 0 },
        "an open intent was settled",
      );
    }
    return ended;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    deps.logger.warn({ count: done.length, code: cause.code }, "intents could not be settled yet");
    return [];
  }
}

type Removable = {
  readonly free: readonly PlacedBlob[];
  /** Moved, and not held where the record names them now, as far as can be told: these may be the last. */
  readonly missed: readonly PlacedBlob[];
  /** Readers stream from them. */
  readonly pinned: readonly PlacedBlob[];
};

/** What may become of each of the blobs, none of which the record names where it is. */
async function sortRemovable(
  deps: RecoverDeps,
  blobs: readonly PlacedBlob[],
  record: ObjectRecord | null,
): Promise<Removable> {
  const kindOf = async (blob: PlacedBlob): Promise<keyof Removable> => {
    if (isPinned(deps, blobSetName(blob.id))) return "pinned";
    return (await isMissed(deps, blob, record)) ? "missed" : "free";
  };
  const kinds = await Promise.all(blobs.map(kindOf));
  const those = (kind: keyof Removable) => blobs.filter((_, at) => kinds[at] === kind);
  return { free: those("free"), missed: those("missed"), pinned: those("pinned") };
}

async function isMissed(deps: RecoverDeps, blob: PlacedBlob, record: ObjectRecord | null): Promise<boolean> {
  const node = record === null ? null : placeOf(record.manifest, blob.id);
  if (node === null) return false;
  try {
    return ((await deps.nodes.get(node)?.describe(blob.id, deadline(deps))) ?? null) === null;
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    return true;
  }
}

function isPinned({ pins, remotePins }: RecoverDeps, name: string): boolean {
  return pins.isPinned(name) || remotePins?.isPinned(name) === true;
}

function emptyRecord(deps: RecoverDeps, intent: Intent): ObjectRecord {
  return {
    state: "fence",
    bucket: intent.bucket,
    key: intent.key,
    version: VERSION_NONE,
    modifiedAtMs: deps.clock.wallMs(),
    sizeBytes: 0,
    etag: "",
    sha256: null,
    contentType: "",
    userMetadata: {},
    manifest: { strategy: "inline", bytes: new Uint8Array(0) },
    fencedTxids: [],
  };
}

function deadline(deps: RecoverDeps) {
  return deadlineIn(deps.clock, deps.waitMs);
}

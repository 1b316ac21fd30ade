/** I6: records, log and nodes agree: nothing dirty, nothing missing, no intent open, no orphan. */
import { isDirty } from "../../../src/domain/record.ts";
import { openInspector, type ClusterInspector } from "../../support/cluster-inspector.ts";
import type { LocalCluster } from "../../support/cluster.ts";

const POLL_MS = 1_000;
const SHOWN_MAX = 5;

/** What is still to be mended, by kind; empty when all is well. */
export type Lack = {
  readonly dirty: string[];
  readonly missing: string[];
  readonly intents: string[];
  readonly orphans: string[];
};

export async function lookForLack(inspector: ClusterInspector): Promise<Lack> {
  const dirty = (await inspector.records()).filter(({ record }) => record.state === "object" && isDirty(record));
  return {
    dirty: dirty.map(({ record }) => record.key),
    missing: await inspector.missing(),
    intents: await inspector.openIntents(),
    orphans: await inspector.orphans(),
  };
}

/** Waits until these kinds of lack are gone; answers what is left when the time is over. */
export async function untilNoLack(
  cluster: LocalCluster,
  kinds: readonly (keyof Lack)[],
  msMax: number,
): Promise<string[]> {
  await using inspector = await openInspector(cluster);
  const overdueAt = performance.now() + msMax;
  for (;;) {
    const lack = await lookForLack(inspector);
    const left = kinds.filter((kind) => lack[kind].length > 0);
    if (left.length === 0) return [];
    if (performance.now() > overdueAt) {
      return left.map((kind) => {
        const names = lack[kind];
        return `I6: ${names.length} ${kind} after ${msMax / 1_000} s: ${names.slice(0, SHOWN_MAX).join(", ")}`;
      });
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

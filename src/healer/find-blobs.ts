import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { Intent } from "../domain/intent.ts";
import type { BlobSet, PlacedBlob } from "../domain/manifest.ts";
import { isReadableNode } from "../domain/node-info.ts";
import type { ObjectRecord } from "../domain/record.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Membership } from "../membership/membership.ts";

export type FindDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly membership: Membership;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly waitMs: number;
};

/**
 * Which nodes one round of recovery can ask; those of neither kind are given up. A node that does not answer once is not
 * asked again in the round.
 */
export type Reach = {
  readonly asked: Map<NodeName, BlobStore>;
  readonly unasked: Set<NodeName>;
};

export type Findings = {
  /** The planned sets with a node on which each blob was really found. */
  readonly found: readonly BlobSet[];
  /** Blobs found on a further node, and such that cannot be made out: nothing can be built on those. */
  readonly strays: readonly PlacedBlob[];
  readonly draft: ObjectRecord | null;
  /** Nodes that told what they hold. */
  readonly answered: ReadonlySet<NodeName>;
  /** Nodes that did not answer for this intent. */
  readonly unasked: ReadonlySet<NodeName>;
  /** Nodes that the intent names and nobody waits for any more. */
  readonly givenUp: ReadonlySet<NodeName>;
};

/** Sorts the nodes by what membership says of them. One that it does not know answers for itself. */
export function reachOf({ membership, nodes }: FindDeps): Reach {
  const states = new Map(membership.snapshot().map(({ name, state }) => [name, state]));
  const reach: Reach = { asked: new Map(), unasked: new Set() };
  for (const node of new Set([...states.keys(), ...nodes.keys()])) {
    const store = nodes.get(node);
    const state = states.get(node) ?? store?.state() ?? "down";
    if (store !== undefined && isReadableNode(state)) reach.asked.set(node, store);
    else if (state !== "gone") reach.unasked.add(node);
  }
  return reach;
}

function nodesNamed(intent: Intent): NodeName[] {
  const planned = intent.planned.flatMap((set) => set.nodes.filter((node) => node !== null));
  return [...planned, ...intent.replaces.map(({ node }) => node)];
}

/**
 * Looks for the planned blobs on every node, since a spare may have taken one that was planned elsewhere: all blobs of
 * the intent at once, so that a node that batches hears of it once. A node that fails moves to `reach.unasked`.
 * @throws {StoreError} `format_unknown` for a blob of a newer program: nothing is concluded about it
 */
export async function findBlobs(deps: FindDeps, intent: Intent, reach: Reach): Promise<Findings> {
  const ids = intent.planned.flatMap((set) => set.nodes.map((_, index) => blobIdOf(set.txid, set.part, index)));
  const holders = new Map<BlobId, NodeName[]>();
  const broken: PlacedBlob[] = [];
  const answered = new Set<NodeName>();
  const unasked = new Set(reach.unasked);
  let descriptor: Uint8Array | null = null;
  const asked = ids.length === 0 ? [] : [...reach.asked];
  const answers = await Promise.all(asked.map(([node, store]) => askNode(deps, node, store, ids)));
  for (const { node, held } of answers) {
    if (held === null) {
      reach.asked.delete(node);
      reach.unasked.add(node);
      unasked.add(node);
      continue;
    }
    answered.add(node);
    for (const blob of held) {
      if (blob.descriptor === null) {
        broken.push({ id: blob.id, node });
        continue;
      }
      holders.set(blob.id, [...(holders.get(blob.id) ?? []), node]);
      descriptor ??= blob.descriptor;
    }
  }
  const draft = descriptor === null ? null : decodeDescriptor(descriptor).record;
  const givenUp = new Set(nodesNamed(intent).filter((node) => !reach.asked.has(node) && !reach.unasked.has(node)));
  const { found, strays } = placeFound(intent, holders);
  return { found, strays: [...strays, ...broken], draft, answered, unasked, givenUp };
}

/** Without a descriptor: the node holds it, and its seal is damaged. */
type Held = { readonly id: BlobId; readonly descriptor: Uint8Array | null };

/** What the node holds of `ids`; null when it does not answer for all of them. */
async function askNode(
  deps: FindDeps,
  node: NodeName,
  store: BlobStore,
  ids: readonly BlobId[],
): Promise<{ readonly node: NodeName; readonly held: readonly Held[] | null }> {
  const deadline = deadlineIn(deps.clock, deps.waitMs);
  try {
    const held = await Promise.all(
      ids.map(async (id): Promise<Held[]> => {
        const blob = await store.describe(id, deadline).catch((cause: unknown) => {
          if (isStoreError(cause, "blob_damaged")) return { descriptor: null };
          throw cause;
        });
        return blob === null ? [] : [{ id, descriptor: blob.descriptor }];
      }),
    );
    return { node, held: held.flat() };
  } catch (cause) {
    if (!isStoreError(cause)) throw cause;
    deps.logger.warn({ node, code: cause.code }, "recovery could not ask a node");
    return { node, held: null };
  }
}

function placeFound(
  intent: Intent,
  holders: ReadonlyMap<BlobId, readonly NodeName[]>,
): Pick<Findings, "found" | "strays"> {
  const strays: PlacedBlob[] = [];
  const found = intent.planned.map((set) => {
    const nodes = set.nodes.map((planned, index) => {
      const id = blobIdOf(set.txid, set.part, index);
      const holding = holders.get(id) ?? [];
      const chosen = holding.find((node) => node === planned) ?? holding[0] ?? null;
      strays.push(...holding.filter((node) => node !== chosen).map((node) => ({ id, node })));
      return chosen;
    });
    return { ...set, nodes };
  });
  return { found, strays };
}

import type { BlobStore } from "../blob/blob-store.ts";
import { decodeDescriptor } from "../domain/blob.ts";
import type { BlobInfo } from "../domain/blob.ts";
import { isStoreError } from "../domain/errors.ts";
import { blobPayloadBytes, stripeCount } from "../domain/geometry.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";
import { blobIdOf } from "../domain/ids.ts";
import type { BlobSet } from "../domain/manifest.ts";
import { isReadableNode } from "../domain/node-info.ts";
import type { Clock } from "../lib/clock.ts";
import { deadlineIn } from "../lib/deadline.ts";
import type { Logger } from "../lib/logger.ts";
import type { Membership } from "../membership/membership.ts";
import type { BlobLook, SetLook } from "./mend-plan.ts";

export type LookDeps = {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly membership: Membership;
  readonly nodes: ReadonlyMap<NodeName, BlobStore>;
  readonly timeouts: { readonly nodeMs: number };
  /** A node that nobody waits for any more. */
  isLost(node: NodeName): boolean;
};

export type FoundSet = SetLook & {
  /** What every blob of the set was sealed with; null when none was found. */
  readonly descriptor: Uint8Array | null;
};

/** Whether the bytes of a blob are to be verified: that reads all of them. */
export type IsSuspect = (id: BlobId, node: NodeName) => boolean;

/** One blob on one node as the node tells. */
type Told =
  | { readonly kind: "held"; readonly descriptor: Uint8Array; readonly damagedCells: readonly number[] }
  | { readonly kind: "absent" }
  | { readonly kind: "away" };

/**
 * Asks the nodes what they really hold of a set: first those that the record names, then, for what is not there, all
 * others. Nodes that do not answer are away, whatever membership says of them.
 */
export async function lookAtSet(deps: LookDeps, set: BlobSet, isSuspect: IsSuspect): Promise<FoundSet> {
  const states = new Map(deps.membership.snapshot().map(({ name, state }) => [name, state]));
  const ask = async (node: NodeName, index: number): Promise<Told> => {
    const store = deps.nodes.get(node);
    const state = states.get(node) ?? store?.state() ?? "down";
    if (store === undefined || !isReadableNode(state)) return { kind: "away" };
    return await askNode(deps, store, set, index, isSuspect);
  };
  let descriptor: Uint8Array | null = null;
  const blobs = await Promise.all(
    set.nodes.map(async (node, index): Promise<BlobLook> => {
      const told = node === null ? null : await ask(node, index);
      if (told?.kind === "held") {
        descriptor ??= told.descriptor;
        const { damagedCells } = told;
        return { node, condition: damagedCells.length === 0 ? "whole" : "damaged", damagedCells, strays: [] };
      }
      const condition = node === null ? "none" : told?.kind === "absent" ? "missing" : awayOrLost(deps, node);
      if (condition === "away") return { node, condition, damagedCells: [], strays: [] };
      const others = [...deps.nodes.keys()].filter((other) => other !== node);
      const answers = await Promise.all(others.map(async (other) => ({ other, told: await ask(other, index) })));
      const strays = answers.flatMap(({ other, told: stray }) => {
        if (stray.kind !== "held" || stray.damagedCells.length > 0) return [];
        descriptor ??= stray.descriptor;
        return [other];
      });
      return { node, condition, damagedCells: [], strays };
    }),
  );
  return { set, blobs, descriptor };
}

function awayOrLost(deps: LookDeps, node: NodeName): "away" | "lost" {
  return deps.isLost(node) ? "lost" : "away";
}

async function askNode(
  deps: LookDeps,
  store: BlobStore,
  set: BlobSet,
  index: number,
  isSuspect: IsSuspect,
): Promise<Told> {
  const id = blobIdOf(set.txid, set.part, index);
  const deadline = () => deadlineIn(deps.clock, deps.timeouts.nodeMs);
  try {
    const found = await store.describe(id, deadline());
    if (found === null || !isOfSet(found.info, set)) return { kind: "absent" };
    // Of a program that is newer than this one nothing is concluded: this throws.
    decodeDescriptor(found.descriptor);
    if (!isSuspect(id, store.node)) return { kind: "held", descriptor: found.descriptor, damagedCells: [] };
    const damages = await store.verify(id, deadline());
    // A blob with a broken frame is as good as none: its node takes another in its place.
    if (damages.some(({ cellIndex }) => cellIndex === null)) return { kind: "absent" };
    const damagedCells = damages.flatMap(({ cellIndex }) => (cellIndex === null ? [] : [cellIndex]));
    return { kind: "held", descriptor: found.descriptor, damagedCells };
  } catch (cause) {
    if (isStoreError(cause, "blob_damaged") || isStoreError(cause, "blob_not_found")) return { kind: "absent" };
    if (!isStoreError(cause) || cause.code === "format_unknown") throw cause;
    deps.logger.debug({ node: store.node, blob: id, code: cause.code }, "a node could not be asked about a blob");
    return { kind: "away" };
  }
}

/** What a blob must look like follows from its set: one that is too short is none. */
function isOfSet(info: BlobInfo, { sizeBytes, redundancy, cellBytes }: BlobSet): boolean {
  return (
    info.payloadBytes === blobPayloadBytes(sizeBytes, redundancy, cellBytes) &&
    info.cellCount === stripeCount(sizeBytes, redundancy, cellBytes)
  );
}

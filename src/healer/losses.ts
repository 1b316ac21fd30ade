import type { Loss } from "../domain/healing.ts";
import { NO_LOSS } from "../domain/healing.ts";
import type { NodeName } from "../domain/ids.ts";
import type { LackingBlob } from "./audit-plan.ts";

type Sum = { -readonly [Figure in keyof Loss]: Loss[Figure] } & { lastTxid: string };

/** Adds up what lacks, node by node and altogether, while blob sets come in the order of their names. */
export class Losses {
  readonly #byNode = new Map<NodeName, Sum>();
  readonly #all: Sum = { ...NO_LOSS, lastTxid: "" };

  /** `setName` as in `<txid>.<part>`: the sets of one write follow each other, and count as one object. */
  add(setName: string, { node, bytes }: LackingBlob): void {
    const txid = setName.slice(0, setName.indexOf("."));
    for (const sum of node === null ? [this.#all] : [this.#all, this.#sumOf(node)]) {
      sum.blobs += 1;
      sum.bytes += bytes;
      if (sum.lastTxid !== txid) sum.objects += 1;
      sum.lastTxid = txid;
    }
  }

  /** On one node, or on all of them (null), what has no node yet included. */
  of(node: NodeName | null): Loss {
    const { blobs, objects, bytes } = (node === null ? this.#all : this.#byNode.get(node)) ?? NO_LOSS;
    return { blobs, objects, bytes };
  }

  #sumOf(node: NodeName): Sum {
    const sum = this.#byNode.get(node) ?? { ...NO_LOSS, lastTxid: "" };
    this.#byNode.set(node, sum);
    return sum;
  }
}

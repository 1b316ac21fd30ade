/** Objects that are written once and stay, with all their bytes inside their records: they make the metadata large. */
import { expect } from "vitest";
import type { StoreClient } from "../black-box/client.ts";
import { noise } from "../store.ts";
import { bytesState, matches } from "./journal.ts";

/** The most that a record takes in. */
const BODY_BYTES = 65_536;
const WRITERS = 16;

export class Ballast {
  readonly #acknowledged = new Set<number>();
  readonly #body: Buffer;
  #next = 0;

  constructor(seed: number) {
    this.#body = noise(BODY_BYTES, seed);
  }

  /** Writes until as many more bytes are acknowledged. */
  async grow(client: StoreClient, bytes: number): Promise<void> {
    const wanted = this.#acknowledged.size + Math.ceil(bytes / BODY_BYTES);
    await Promise.all(Array.from({ length: WRITERS }, () => this.run(client, () => this.#acknowledged.size >= wanted)));
  }

  /** Writes one after the other. What is not acknowledged is not written again. */
  async run(client: StoreClient, stopped: () => boolean): Promise<void> {
    while (!stopped()) {
      const number = this.#next++;
      const answer = await client.put(`${pathOf(number)}?strategy=inline`, this.#bodyOf(number)).catch(() => null);
      if (answer?.status === 201) this.#acknowledged.add(number);
      else if (answer !== null && answer.status < 500)
        throw new Error(`${pathOf(number)} was answered ${answer.status}`);
    }
  }

  /** Every acknowledged object is there, byte for byte. */
  async check(client: StoreClient, context: string): Promise<void> {
    const left = this.#acknowledged.values();
    const lost: string[] = [];
    const read = async () => {
      for (const number of left) {
        const { status, body } = await client.get(pathOf(number));
        if (status !== 200 || !matches(bytesState(this.#bodyOf(number)), body))
          lost.push(`${pathOf(number)}: ${status}`);
      }
    };
    // All readers draw from the one iterator.
    await Promise.all(Array.from({ length: WRITERS }, read));
    expect(lost, `${context}: acknowledged objects`).toEqual([]);
  }

  #bodyOf(number: number): Buffer {
    const body = Buffer.from(this.#body);
    body.writeUInt32BE(number);
    return body;
  }
}

function pathOf(number: number): string {
  return `/objects/ballast/${number}`;
}

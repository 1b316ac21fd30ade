/** The keys of a campaign, and which of its clients use them for what. */
import type { Seeded } from "../../support/load/seeded.ts";
import type { Content, DocumentPlan } from "./content.ts";

/**
 * register: put and read by everybody, for the zone test. contested: everything, by a few clients. document: JSON, patched
 * by field, by a few clients. archive: many keys and large bodies, each with one writer.
 */
export const KEY_KINDS = ["register", "contested", "document", "archive"] as const;
export type KeyKind = (typeof KEY_KINDS)[number];

const SLOTS: Readonly<Record<KeyKind, number>> = { register: 4, contested: 5, document: 4, archive: 48 };
/** Writes of which nobody knows the outcome make the search long: a key that has had so many is left alone. */
const UNKNOWN_MAX: Readonly<Record<KeyKind, number>> = { register: 1_000, contested: 24, document: 6, archive: 8 };

/** A place for keys that follow each other. */
export type KeySlot = {
  readonly kind: KeyKind;
  readonly index: number;
  /** Of its present key. */
  key: string;
  generation: number;
  unknownCount: number;
};

export class KeySpace {
  readonly #slots: readonly KeySlot[];
  /** Every key there has been. */
  readonly keys = new Map<string, KeyKind>();
  /** Bodies by key and digest. */
  readonly #contents = new Map<string, Map<string, Content>>();
  readonly #documents = new Map<string, DocumentPlan>();
  readonly #digests = new Map<string, string>();

  constructor() {
    this.#slots = KEY_KINDS.flatMap((kind) =>
      Array.from({ length: SLOTS[kind] }, (_, index) =>
        this.#enter({ kind, index, key: "", generation: 0, unknownCount: 0 }),
      ),
    );
  }

  /** Client number `client` of so many: one of the keys of the kind that it may use. */
  pick(random: Seeded, kind: KeyKind, client: number, clients: number): KeySlot {
    const slots = this.#slots.filter((slot) => slot.kind === kind);
    if (kind !== "archive") return random.pick(slots);
    return random.pick(slots.filter(({ index }) => index % clients === client % slots.length));
  }

  countUnknown(slot: KeySlot, key: string): void {
    if (slot.key !== key) return;
    slot.unknownCount += 1;
    if (slot.unknownCount < UNKNOWN_MAX[slot.kind]) return;
    slot.generation += 1;
    slot.unknownCount = 0;
    this.#enter(slot);
  }

  keysOf(kind: KeyKind): string[] {
    return [...this.keys].filter(([, each]) => each === kind).map(([key]) => key);
  }

  /** False when the key has had this very content already, as may be with a few bytes. */
  addContent(key: string, digest: string, content: Content): boolean {
    const contents = this.#contents.get(key) ?? new Map<string, Content>();
    this.#contents.set(key, contents);
    if (contents.has(digest)) return false;
    contents.set(digest, content);
    return true;
  }

  contentOf(key: string, digest: string): Content | undefined {
    return this.#contents.get(key)?.get(digest);
  }

  addDocument(plan: DocumentPlan, digest: string): void {
    this.#documents.set(plan.base, plan);
    this.#digests.set(plan.base, digest);
  }

  documentOf(base: string): DocumentPlan | undefined {
    return this.#documents.get(base);
  }

  /** Of the bytes that were sent. */
  digestOfDocument(base: string): string | undefined {
    return this.#digests.get(base);
  }

  #enter(slot: KeySlot): KeySlot {
    slot.key = `${slot.kind}/${slot.index}${slot.generation === 0 ? "" : `.${slot.generation}`}`;
    this.keys.set(slot.key, slot.kind);
    return slot;
  }
}

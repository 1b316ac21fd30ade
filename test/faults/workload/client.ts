/** One client of the torture suite: requests of every kind, chosen by its seed, through whichever gateway. */
import type { Answer } from "../../support/black-box/client.ts";
import { StoreClient } from "../../support/black-box/client.ts";
import type { Seeded } from "../../support/load/seeded.ts";
import type { Action, Condition, Value } from "../checkers/register.ts";
import type { Answered, HistoryRecorder, Meaning } from "../history/recorder.ts";
import { contentOf, documentOf, HOT_FIELDS, patchOf, sha256Of, valueOfPlan } from "./content.ts";
import { askGateway, codeOf, noteOf, outcomeOfRefusal } from "./gateway-request.ts";
import { KEY_KINDS, type KeyKind, type KeySlot, type KeySpace } from "./keys.ts";
import { ObjectReader, tagOf } from "./object-reader.ts";
import { drawBytes, type ByteBudget } from "./sizes.ts";

const STRATEGIES = ["auto", "auto", "inline", "replication", "ec", "ec"] as const;
const INLINE_BYTES_MAX = 65_536;
const DOCUMENT_BYTES_MAX = 600_000;
const PATIENCE_MS = [4_000, 8_000, 15_000, 30_000] as const;
const REST_MS_MAX = 40;
/** After an answer that a gateway cannot serve now. */
const TROUBLE_REST_MS = 150;

/** How often which kind of key is used. */
const KIND_SHARES: readonly (readonly [KeyKind, number])[] = [
  ["register", 0.2],
  ["contested", 0.3],
  ["document", 0.25],
  ["archive", 0.25],
];

const ABSENT: Action = { kind: "read", value: null };

export type Gateway = { readonly name: string; readonly url: string };

export type World = {
  readonly recorder: HistoryRecorder;
  readonly keys: KeySpace;
  readonly gateways: readonly Gateway[];
  readonly budget: ByteBudget;
  readonly clients: number;
};

/** What a client remembers of a key, to write on condition of it. */
type Glimpse = { readonly etag: string; readonly value: Value };

export class TortureClient implements Disposable {
  readonly name: string;
  readonly #index: number;
  readonly #random: Seeded;
  readonly #world: World;
  readonly #connections: readonly StoreClient[];
  readonly #reader: ObjectReader;
  readonly #glimpses = new Map<string, Glimpse>();
  #serial = 0;
  #gateway = 0;

  constructor(index: number, random: Seeded, world: World) {
    this.name = `c${index}`;
    this.#index = index;
    this.#random = random;
    this.#world = world;
    this.#connections = world.gateways.map(({ url }) => new StoreClient(url));
    this.#reader = new ObjectReader(world.keys, world.recorder);
  }

  async run(stopped: () => boolean): Promise<void> {
    const random = this.#random;
    while (!stopped()) {
      this.#gateway = random.between(0, this.#connections.length - 1);
      const { outcome } = await this.#act(random.next());
      await new Promise((resolve) =>
        setTimeout(resolve, outcome === "ok" ? random.between(0, REST_MS_MAX) : TROUBLE_REST_MS),
      );
    }
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections) connection[Symbol.dispose]();
  }

  async #act(choice: number): Promise<Answered> {
    const random = this.#random;
    const kind = this.#kind();
    if (choice < 0.03) return await this.#list(random.pick(KEY_KINDS));
    const slot = this.#world.keys.pick(random, kind, this.#index, this.#world.clients);
    if (choice < 0.4) return await this.#read(slot);
    if (kind === "register") return await this.#put(slot, null);
    if (choice < 0.48) return await this.#delete(slot);
    if (choice < 0.51) return await this.#undelete(slot);
    if (kind === "document" && choice < 0.8) return await this.#patch(slot);
    return await this.#put(slot, this.#condition(slot));
  }

  #kind(): KeyKind {
    let choice = this.#random.next();
    for (const [kind, share] of KIND_SHARES) if ((choice -= share) < 0) return kind;
    return "contested";
  }

  async #put(slot: KeySlot, condition: Condition | null): Promise<Answered> {
    const { key } = slot;
    const random = this.#random;
    const strategy = slot.kind === "document" ? "field_hybrid" : random.pick(STRATEGIES);
    const { body, value } = slot.kind === "document" ? this.#document() : this.#content(key, strategy);
    const chunked = random.next() < 0.3;
    const headers = this.#headersOf(key, condition);
    const action: Action = { kind: "put", value, condition };
    const consistency = random.next() < 0.1 ? "&consistency=all" : "";
    const target = `/objects/${key}?strategy=${strategy}${consistency}`;
    return await this.#write(slot, {
      method: "PUT",
      target,
      action,
      options: { body, chunked, headers },
      notFound: null,
    });
  }

  async #patch(slot: KeySlot): Promise<Answered> {
    const random = this.#random;
    const field = random.next() < 0.7 ? random.pick(HOT_FIELDS) : "cold";
    const condition = random.next() < 0.3 ? this.#seen(slot.key) : null;
    const { body, fields } = patchOf(this.#stamp(), field);
    const headers = { ...this.#headersOf(slot.key, condition), "content-type": "application/merge-patch+json" };
    const action: Action = { kind: "patch", fields, condition };
    const target = `/objects/${slot.key}`;
    return await this.#write(slot, { method: "PATCH", target, action, options: { body, headers }, notFound: ABSENT });
  }

  async #delete(slot: KeySlot): Promise<Answered> {
    const condition = this.#random.next() < 0.25 ? this.#seen(slot.key) : null;
    const headers = this.#headersOf(slot.key, condition);
    const action: Action = { kind: "delete", condition };
    const target = `/objects/${slot.key}`;
    return await this.#write(slot, { method: "DELETE", target, action, options: { headers }, notFound: ABSENT });
  }

  /** Of a content that this client has seen: so it is known what comes back, also where no answer comes. */
  async #undelete(slot: KeySlot): Promise<Answered> {
    const condition = this.#seen(slot.key);
    if (condition?.kind !== "holds") return await this.#read(slot);
    const headers = this.#headersOf(slot.key, condition);
    const action: Action = { kind: "undelete", value: condition.value };
    const target = `/objects/${slot.key}?undelete`;
    return await this.#write(slot, { method: "POST", target, action, options: { headers }, notFound: ABSENT });
  }

  async #read(slot: KeySlot): Promise<Answered> {
    const { key, kind } = slot;
    const random = this.#random;
    const choice = random.next();
    const range = kind === "document" ? null : this.#reader.drawRange(random, key, this.#glimpses.get(key)?.value);
    const target = `/objects/${key}`;
    if (choice < 0.15) return await this.#ask("HEAD", target, {}, (answer) => this.#reader.head(key, answer));
    if (choice < 0.3 && kind === "document") {
      const projected = `${target}?fields=battery_level,status`;
      return await this.#ask("GET", projected, {}, (answer) => this.#reader.fields(key, answer));
    }
    if (choice < 0.45 && range !== null) {
      const headers = { range: `bytes=${range.start}-${range.end - 1}` };
      return await this.#ask("GET", target, headers, (answer) => this.#reader.range(key, answer, range));
    }
    return await this.#ask("GET", target, {}, (answer) => {
      const answered = this.#reader.whole(key, kind, answer);
      this.#remember(key, answer, answered);
      return answered;
    });
  }

  async #list(kind: KeyKind): Promise<Answered> {
    const keys = this.#world.keys.keysOf(kind);
    const target = `/objects?prefix=${kind}/&limit=1000`;
    return await this.#ask("GET", target, {}, (answer) => this.#reader.listing(keys, answer));
  }

  async #ask(
    method: string,
    target: string,
    headers: Record<string, string>,
    understand: (answer: Answer) => Answered,
  ): Promise<Answered> {
    return await this.#record(`${method} ${target}${headers["range"] ?? ""}`, false, async () => {
      const reply = await askGateway(this.#connection(), this.#random.pick(PATIENCE_MS), method, target, { headers });
      // A read that was not answered tells nothing.
      return "lost" in reply ? { ...reply.lost, outcome: "failed" } : understand(reply.answer);
    });
  }

  async #write(slot: KeySlot, write: Write): Promise<Answered> {
    const { key } = slot;
    const { method, target, action, options } = write;
    const size = options.body === undefined ? "" : ` ${options.body.length} bytes`;
    const condition = "condition" in action ? action.condition : null;
    const on = condition === null ? "" : condition.kind === "absent" ? " if absent" : ` if ${condition.value}`;
    const answered = await this.#record(`${method} ${target}${size}${on}`, true, async () => {
      const reply = await askGateway(this.#connection(), this.#random.pick(PATIENCE_MS), method, target, options);
      if ("lost" in reply) return { ...reply.lost, meanings: [{ key, action }] };
      return this.#judge(key, write, condition, reply.answer);
    });
    if (answered.outcome === "unknown") this.#world.keys.countUnknown(slot, key);
    return answered;
  }

  #judge(key: string, { action, target, notFound }: Write, condition: Condition | null, answer: Answer): Answered {
    const { status } = answer;
    const say = (outcome: Answered["outcome"], meant: Action): Answered => {
      const meanings: Meaning[] = [{ key, action: meant }];
      const version = answer.headers["x-kintsugi-version"];
      return { outcome, status, meanings, note: noteOf(answer), ...(typeof version === "string" ? { version } : {}) };
    };
    if (status >= 200 && status < 300) {
      const etag = tagOf(answer);
      if (action.kind === "put" && etag !== null) this.#learn(key, etag, action.value);
      return say("ok", action);
    }
    if (status === 404 && notFound !== null) return say("ok", notFound);
    if (action.kind === "undelete") {
      // What was deleted has another tag, or was given up: either way nothing is there.
      if (status === 410 || status === 412) return say("ok", ABSENT);
      if (codeOf(answer) === "not_deleted") return say("ok", { kind: "refused", condition: { kind: "absent" } });
    }
    if (status === 412 && condition !== null) return say("ok", { kind: "refused", condition });
    const outcome = outcomeOfRefusal(answer);
    if (outcome === null) {
      this.#world.recorder.contradictions.push(`${target} was answered ${status}: ${noteOf(answer)}`);
    }
    return say(outcome ?? "unknown", action);
  }

  #learn(key: string, etag: string, value: Value): void {
    this.#world.recorder.learnTag(key, etag, value);
    this.#glimpses.set(key, { etag, value });
  }

  #remember(key: string, answer: Answer, { meanings }: Answered): void {
    const action = meanings[0]?.action;
    const etag = tagOf(answer);
    if (action?.kind !== "read" || action.value === null || etag === null) return;
    this.#learn(key, etag, action.value);
  }

  #record(request: string, isWrite: boolean, send: () => Promise<Answered>): Promise<Answered> {
    const gateway = (this.#world.gateways[this.#gateway] as Gateway).name;
    return this.#world.recorder.record({ client: this.name, gateway, request, isWrite }, send);
  }

  #connection(): StoreClient {
    return this.#connections[this.#gateway] as StoreClient;
  }

  /** Now and then a write on condition: that there is nothing, or what this client has seen last. */
  #condition(slot: KeySlot): Condition | null {
    const choice = this.#random.next();
    if (choice < 0.15) return { kind: "absent" };
    return choice < 0.5 ? this.#seen(slot.key) : null;
  }

  #seen(key: string): Condition | null {
    const glimpse = this.#glimpses.get(key);
    return glimpse === undefined ? null : { kind: "holds", value: glimpse.value };
  }

  #headersOf(key: string, condition: Condition | null): Record<string, string> {
    if (condition === null) return {};
    if (condition.kind === "absent") return { "if-none-match": "*" };
    return { "if-match": `"${(this.#glimpses.get(key) as Glimpse).etag}"` };
  }

  #content(key: string, strategy: string): { body: Buffer; value: Value } {
    const { keys, budget } = this.#world;
    for (let tries = 0; ; tries += 1) {
      const drawn = drawBytes(this.#random, budget);
      const sizeBytes = Math.max(tries, strategy === "inline" ? Math.min(drawn, INLINE_BYTES_MAX) : drawn);
      const name = this.#stamp();
      const body = contentOf(name, sizeBytes);
      const value = sha256Of(body);
      if (keys.addContent(key, value, { name, sizeBytes })) return { body, value };
    }
  }

  #document(): { body: Buffer; value: Value } {
    const plan = { base: this.#stamp(), padBytes: this.#random.size(10, DOCUMENT_BYTES_MAX) };
    const body = documentOf(plan);
    this.#world.budget.take(body.length);
    this.#world.keys.addDocument(plan, sha256Of(body));
    return { body, value: valueOfPlan(plan) };
  }

  /** Different for every write of every client. */
  #stamp(): string {
    this.#serial += 1;
    return `${this.name}-${this.#serial}`;
  }
}

type Write = {
  readonly method: string;
  readonly target: string;
  readonly action: Action;
  readonly options: {
    readonly body?: Buffer | string;
    readonly chunked?: boolean;
    readonly headers: Record<string, string>;
  };
  /** What a 404 says; null where there may be none. */
  readonly notFound: Action | null;
};

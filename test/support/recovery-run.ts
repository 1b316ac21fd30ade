/** One run of a `RecoveryWorld` off a tape of numbers: what happens next, to whom, and in which order it arrives. */
import { blobSetsOf } from "../../src/domain/manifest.ts";
import { CONSISTENCIES } from "../../src/domain/receipt.ts";
import type { Recovery } from "../../src/healer/recovery-loop.ts";
import { startRecovery } from "../../src/healer/recovery-loop.ts";
import { settle } from "./manual-clock.ts";
import type { ModelReport, ModelWrite } from "./model-writer.ts";
import { writeModel } from "./model-writer.ts";
import { RecoveryWorld, WORLD_NODES } from "./recovery-world.ts";
import { SimulatedProcess } from "./simulated-network.ts";

const GATEWAYS = ["g1", "g2"];
const KEYS = ["a", "b"];
const KINDS = ["copies", "copies", "shards", "hot", "delete"] as const;
const STEPS_MS = [100, 300, 1_000, 1_000, 2_100, 3_000, 5_000, 6_000, 11_000, 31_000, 61_000];
const NAPS_MS = [9_000, 11_000, 31_000];
const WRITES_MAX = 12;
/** Rounds of three seconds that recovery may need to come to rest. */
const REST_ROUNDS_MAX = 150;

/** Choices in a row; behind its end all are the first. */
export class Tape {
  readonly #values: readonly number[];
  #at = 0;

  constructor(values: readonly number[]) {
    this.#values = values;
  }

  get ended(): boolean {
    return this.#at >= this.#values.length;
  }

  below(limit: number): number {
    return (this.#values[this.#at++] ?? 0) % limit;
  }

  of<T>(options: readonly T[]): T {
    return options[this.below(options.length)] as T;
  }
}

type Term = { readonly healer: SimulatedProcess; readonly grant: { held: boolean }; readonly recovery: Recovery };

export class RecoveryRun {
  readonly world = new RecoveryWorld();
  readonly reports: (ModelReport & { readonly write: ModelWrite })[] = [];
  readonly #tape: Tape;
  readonly #terms: Term[] = [];
  #writes = 0;

  constructor(tape: Tape) {
    this.#tape = tape;
    for (const name of GATEWAYS) this.world.startGateway(name);
    this.#elect();
  }

  /** The outcomes that recovery came to. */
  recovered(): string[] {
    const counts = this.#terms.flatMap(({ recovery }) => Object.entries(recovery.status().counts));
    return counts.filter(([outcome, count]) => count > 0 && outcome !== "left").map(([outcome]) => outcome);
  }

  /** One event of the tape. */
  async step(): Promise<void> {
    const { world } = this;
    const event = this.#tape.below(100);
    if (event < 48) await this.#deliver();
    else if (event < 56) await this.#runHealers();
    else if (event < 64) await this.#runGateway();
    else if (event < 74) this.#write();
    else if (event < 80) world.clock.advance(this.#tape.of(STEPS_MS));
    else if (event < 83) this.#gateway().sleep();
    else if (event < 86) await this.#outliveTimeouts();
    else if (event < 88) this.#gateway().wake();
    else if (event < 90) this.#kill();
    else if (event < 92) this.#succeed();
    else if (event < 97) world.setNode(this.#tape.of(WORLD_NODES), this.#tape.of(["up", "up", "hung", "refused"]));
    else if (event < 98) this.#terms.at(-1)?.healer.sleep();
    else if (event < 99) this.#pin();
    else this.#elect();
    await settle();
    await world.checkNamed();
  }

  /** All but one node is well and no reader is left: time for recovery to come to rest. */
  async mendButOneNode(): Promise<void> {
    const { world } = this;
    const away = this.#tape.of(WORLD_NODES);
    for (const node of WORLD_NODES) world.setNode(node, node === away ? "refused" : "up");
    world.pinned.clear();
    world.wakeGateways();
    this.#elect();
    await this.#rest(async () => (await world.openIntents()).every(({ planned }) => planned.length === 0));
  }

  async mendAll(): Promise<void> {
    const { world } = this;
    for (const node of WORLD_NODES) world.setNode(node, "up");
    await this.#rest(async () => (await world.openIntents()).length === 0);
  }

  /** Time passes, and everything is delivered at once, until `done`. */
  async #rest(done: () => Promise<boolean>): Promise<void> {
    for (let round = 0; round < REST_ROUNDS_MAX; round += 1) {
      await this.#drain(() => true);
      await this.world.checkNamed();
      if (round > 5 && (await done())) return;
      this.world.clock.advance(3_000);
    }
  }

  async #drain(isFrom: (from: SimulatedProcess) => boolean): Promise<void> {
    do await settle();
    while (await this.world.network.deliverAll(isFrom));
  }

  async #deliver(): Promise<void> {
    const first = this.#tape.below(64);
    for (let more = this.#tape.below(4); more >= 0; more -= 1) {
      await this.world.network.deliver(first);
      await settle();
    }
  }

  /** Healers get on with their work while everybody else's calls take their time. */
  async #runHealers(): Promise<void> {
    this.world.clock.advance(1_000);
    await this.#drain((from) => !GATEWAYS.includes(from.name));
  }

  async #runGateway(): Promise<void> {
    const gateway = this.#gateway();
    await this.#drain((from) => from === gateway);
  }

  /** A gateway sleeps past every timeout, healers settle what they think it left, and it goes on. */
  async #outliveTimeouts(): Promise<void> {
    const gateway = this.#gateway();
    gateway.sleep();
    this.world.clock.advance(this.#tape.of(NAPS_MS));
    for (let rounds = this.#tape.below(4); rounds >= 0; rounds -= 1) await this.#runHealers();
    if (this.#tape.below(3) === 0) await this.world.crowdOutFences(this.#tape.of(KEYS));
    gateway.wake();
  }

  #write(): void {
    if (this.#writes >= WRITES_MAX) return;
    const gateway = this.#gateway();
    const first = this.#tape.below(WORLD_NODES.length);
    const write: ModelWrite = {
      key: this.#tape.of(KEYS),
      kind: this.#tape.of(KINDS),
      consistency: this.#tape.of(CONSISTENCIES),
      onConflict: this.#tape.of(["replace", "replace", "exact"]),
      nodes: [...WORLD_NODES.slice(first), ...WORLD_NODES.slice(0, first)],
    };
    if (gateway.state !== "runs") return;
    this.#writes += 1;
    void writeModel(this.world, gateway, write, (report) => this.reports.push({ ...report, write }));
  }

  #gateway(): SimulatedProcess {
    return this.world.gateways.get(this.#tape.of(GATEWAYS)) as SimulatedProcess;
  }

  /** What it has sent may still arrive. */
  #kill(): void {
    const gateway = this.#gateway();
    if (this.#tape.below(2) === 0) this.world.network.lose(gateway);
    gateway.kill();
  }

  /** Another gateway takes the name of one that is gone, or only sleeps. */
  #succeed(): void {
    const gateway = this.#gateway();
    if (gateway.state !== "runs") this.world.startGateway(gateway.name);
  }

  /** Readers begin on what is current, and stay; or all have read enough. */
  #pin(): void {
    const { world } = this;
    if (this.#tape.below(2) === 0) return world.pinned.clear();
    const record = world.currentOf(this.#tape.of(KEYS));
    const sets = record === undefined ? [] : blobSetsOf(record.manifest);
    for (const { txid, part } of sets) world.pinned.add(`${txid}.${part}`);
  }

  /** Another healer leads; the one before may sleep, or have calls under way. */
  #elect(): void {
    const before = this.#terms.at(-1);
    if (before !== undefined) {
      before.grant.held = false;
      void before.recovery[Symbol.asyncDispose]();
    }
    const healer = new SimulatedProcess(`h${this.#terms.length + 1}`, this.world.clock);
    const grant = { held: true };
    const mode = { kind: "leading", grant: { isHeld: () => grant.held } } as const;
    this.#terms.push({ healer, grant, recovery: startRecovery(this.world.depsOf(healer), mode) });
  }
}

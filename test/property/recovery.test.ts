import { writeFileSync } from "node:fs";
/**
 * Random interleavings of writers, healers, outages, sleeps and deaths. Every call between processes is a message that
 * arrives when the tape says so, perhaps long after its sender has given up. The tape is one fast-check value.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LeaseGrant } from "../../src/lease/lease.ts";
import { isCleanUp } from "../../src/healer/recover-plan.ts";
import type { Recovery } from "../../src/healer/recovery-loop.ts";
import { startRecovery } from "../../src/healer/recovery-loop.ts";
import { blobSetsOf } from "../../src/domain/manifest.ts";
import { CONSISTENCIES } from "../../src/domain/receipt.ts";
import { settle } from "../support/manual-clock.ts";
import type { ModelReport, ModelWrite } from "../support/model-writer.ts";
import { writeModel } from "../support/model-writer.ts";
import { RecoveryWorld, WORLD_NODES } from "../support/recovery-world.ts";
import { SimulatedProcess } from "../support/simulated-network.ts";

const GATEWAYS = ["g1", "g2"];
const KEYS = ["a", "b"];
const KINDS = ["copies", "copies", "shards", "hot", "delete"] as const;
const STEPS_MS = [100, 300, 1_000, 1_000, 2_100, 3_000, 5_000, 6_000, 11_000, 31_000, 61_000];
const WRITES_MAX = 12;

/** Reads choices off a tape; behind its end all are 0. */
class Tape {
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

class Run {
  readonly world = new RecoveryWorld();
  readonly reports: (ModelReport & { readonly write: ModelWrite })[] = [];
  readonly #tape: Tape;
  #writes = 0;
  get writes() { return this.#writes; }
  counts: Record<string, number> = {};
  #term: { readonly healer: SimulatedProcess; readonly grant: { held: boolean }; readonly recovery: Recovery } | null = null;
  #healers = 0;

  constructor(tape: Tape) {
    this.#tape = tape;
    for (const name of GATEWAYS) this.world.startGateway(name);
    this.#elect();
  }

  /** One event of the tape. */
  async step(): Promise<void> {
    const { world } = this;
    const event = this.#tape.below(100);
    if (event >= 74) world.network.note(`event ${event}`);
    if (event < 48) await this.#deliver();
    else if (event < 56) await this.#runHealers();
    else if (event < 64) await this.#runGateway();
    else if (event < 74) this.#write();
    else if (event < 80) world.clock.advance(this.#tape.of(STEPS_MS));
    else if (event < 83) this.#gateway()?.sleep();
    else if (event < 86) await this.#outliveTimeouts();
    else if (event < 88) this.#gateway()?.wake();
    else if (event < 90) this.#kill();
    else if (event < 92) this.#revive();
    else if (event < 97) world.setNode(this.#tape.of(WORLD_NODES), this.#tape.of(["up", "up", "hung", "refused"]));
    else if (event < 98) this.#sleepHealer();
    else if (event < 99) this.#pin();
    else this.#elect();
    await settle();
    await world.checkNamed();
  }

  /** All but one node and the pins of readers: recovery must come to rest, with nothing open but what that node may hold. */
  async mendButOneNode(): Promise<void> {
    const { world } = this;
    const away = this.#tape.of(WORLD_NODES);
    for (const node of WORLD_NODES) world.setNode(node, node === away ? "refused" : "up");
    world.pinned.clear();
    for (const gateway of world.gateways.values()) gateway.wake();
    this.#elect();
    await this.#rest(async () => (await world.openIntents()).every(isCleanUp));
  }

  async mendAll(): Promise<void> {
    const { world } = this;
    for (const node of WORLD_NODES) world.setNode(node, "up");
    await this.#rest(async () => (await world.openIntents()).length === 0);
  }

  /** Time passes, and everything is delivered at once, until `done` and nothing is under way. */
  async #rest(done: () => Promise<boolean>): Promise<void> {
    for (let round = 0; round < 150; round += 1) {
      await this.#drain(() => true);
      await this.world.checkNamed();
      if (round > 5 && (await done())) return;
      this.world.clock.advance(3_000);
    }
  }

  async #deliver(): Promise<void> {
    const first = this.#tape.below(64);
    for (let more = this.#tape.below(4); more >= 0; more -= 1) {
      await this.world.network.deliver(first);
      await settle();
    }
  }

  /** A gateway sleeps past every timeout, healers settle what they think it left, and it goes on. */
  async #outliveTimeouts(): Promise<void> {
    const gateway = this.#gateway();
    gateway?.sleep();
    this.world.clock.advance(this.#tape.of([9_000, 11_000, 31_000]));
    for (let rounds = this.#tape.below(4); rounds >= 0; rounds -= 1) await this.#runHealers();
    gateway?.wake();
  }

  /** Healers get on with their work while everybody else's calls take their time. */
  async #runHealers(): Promise<void> {
    this.world.clock.advance(1_000);
    await this.#drain((from) => from.name.startsWith("h"));
  }

  async #runGateway(): Promise<void> {
    const gateway = this.#gateway();
    await this.#drain((from) => from === gateway);
  }

  async #drain(isFrom: (from: SimulatedProcess) => boolean): Promise<void> {
    do await settle();
    while (await this.world.network.deliverAll(isFrom));
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
    if (gateway?.state !== "runs") return;
    this.#writes += 1;
    void writeModel(this.world, gateway, write, (report) => this.reports.push({ ...report, write }));
  }

  #gateway(): SimulatedProcess | undefined {
    return this.world.gateways.get(this.#tape.of(GATEWAYS));
  }

  #kill(): void {
    const gateway = this.#gateway();
    if (this.#tape.below(2) === 0 && gateway !== undefined) this.world.network.lose(gateway);
    gateway?.kill();
  }

  /** A gateway of the same name; the one before may only sleep. */
  #revive(): void {
    const gateway = this.#gateway();
    if (gateway === undefined || gateway.state === "runs") return;
    this.world.startGateway(gateway.name);
  }

  #sleepHealer(): void {
    this.#term?.healer.sleep();
  }

  #pin(): void {
    const { world } = this;
    if (this.#tape.below(2) === 0) return world.pinned.clear();
    const record = world.currentOf(this.#tape.of(KEYS));
    for (const set of record === undefined ? [] : blobSetsOf(record.manifest)) world.pinned.add(`${set.txid}.${set.part}`);
  }

  /** Another healer leads; the one before may sleep, or have calls under way. */
  #elect(): void {
    const before = this.#term;
    if (before !== null) {
      for (const [k, v] of Object.entries(before.recovery.status().counts)) this.counts[k] = (this.counts[k] ?? 0) + v;
      before.grant.held = false;
      void before.recovery[Symbol.asyncDispose]();
    }
    const healer = new SimulatedProcess(`h${(this.#healers += 1)}`, this.world.clock);
    const grant = { held: true };
    const mode = { kind: "leading", grant: { isHeld: () => grant.held } satisfies Pick<LeaseGrant, "isHeld"> } as const;
    this.#term = { healer, grant, recovery: startRecovery(this.world.depsOf(healer), mode) };
  }
}

const tapes = fc.array(fc.nat({ max: 2 ** 16 }), { minLength: 200, maxLength: 900, size: "max" });

describe("recovery", () => {
  it("keeps every promise, whoever sleeps, dies or is late", async () => {
    let late = 0;
    let trace: string[] = [];
    const stats: Record<string, number> = {};
    await fc.assert(
      fc.asyncProperty(tapes, async (values) => {
        const tape = new Tape(values);
        const run = new Run(tape);
        while (!tape.ended && run.world.broken.length === 0) await run.step();
        await run.mendButOneNode();
        const open = await run.world.openIntents();
        await run.mendAll();
        const { world, reports } = run;
        const thisTrace = [...world.network.trace, ...reports.map((r) => `${r.txid.slice(20)} ${r.outcome} ${JSON.stringify(r.write)}`)];
        try {
        expect(world.broken).toEqual([]);
        for (const { txid, outcome, before, write } of reports) {
          const version = world.history.find((entry) => entry.version === txid);
          if (outcome === "acknowledged") expect(version, `${txid} was acknowledged`).toBeDefined();
          if (outcome === "failed") expect(version, `${txid} had failed`).toBeUndefined();
          if (version !== undefined && write.onConflict === "exact") expect(version.before).toBe(before);
        }
        expect(open.filter((intent) => !isCleanUp(intent)), "open while a node is down").toEqual([]);
        expect(await world.openIntents(), "open intents").toEqual([]);
        expect(await world.orphans(), "orphans").toEqual([]);
        } catch (cause) { trace = thisTrace; throw cause; }
        late += world.lateBlobs;
        for (const r of reports) stats[r.outcome] = (stats[r.outcome] ?? 0) + 1;
        stats["steps"] = (stats["steps"] ?? 0) + values.length;
        stats["writes"] = (stats["writes"] ?? 0) + run.writes;
        stats["history"] = (stats["history"] ?? 0) + world.history.length;
        for (const [k, v] of Object.entries(run.counts)) stats[k] = (stats[k] ?? 0) + v;
      }),
      { numRuns: Number(process.env["RUNS"] ?? 300), ...(process.env["SEED"] === undefined ? {} : { seed: Number(process.env["SEED"]) }), endOnFailure: process.env["NOSHRINK"] !== undefined },
    ).finally(() => writeFileSync("/tmp/heal/trace.txt", trace.join("\n")));
    console.log({ late, stats });
  });
});

/** Notices processes that end without having been killed, and starts them again as a supervisor would. */
import { setTimeout as sleep } from "node:timers/promises";
import { describeExit } from "../../../cluster/process.ts";
import type { ClusterMember, LocalCluster } from "../../support/cluster.ts";

export type UnexpectedExit = { readonly name: string; readonly how: string; readonly lastLines: string };

const SUPERVISOR_MS = 1_000;
const TRIES_MAX = 5;
const LOG_CHARACTERS = 1_500;

export class ExitWatch {
  readonly #cluster: LocalCluster;
  readonly #expected = new Set<ClusterMember>();
  readonly #watched = new Set<ClusterMember>();
  readonly #revivals = new Set<Promise<void>>();
  readonly #say: (text: string) => void;
  readonly unexpected: UnexpectedExit[] = [];
  #isOver = false;

  constructor(cluster: LocalCluster, say: (text: string) => void) {
    this.#cluster = cluster;
    this.#say = say;
    this.rearm();
  }

  /** Its end is asked for now. */
  expect(member: ClusterMember): void {
    this.#expected.add(member);
  }

  /** Tries again a few times, as what it joins may not be there yet. */
  async restart(member: ClusterMember): Promise<void> {
    for (let tries = 1; !member.isRunning; tries += 1) {
      try {
        await member.restart();
      } catch (cause) {
        if (tries === TRIES_MAX) throw cause;
        this.#say(`${member.name} did not start: ${(cause as Error).message.split("\n", 1)[0]}`);
        await sleep(SUPERVISOR_MS);
      }
    }
    this.#arm(member);
  }

  /** Everything runs, and nothing is to end. */
  rearm(): void {
    for (const member of this.#cluster.members) this.#arm(member);
  }

  /** From now on ends are nobody's business; resolves when nothing is being started again. */
  async close(): Promise<void> {
    this.#isOver = true;
    await Promise.allSettled(this.#revivals);
  }

  #arm(member: ClusterMember): void {
    this.#expected.delete(member);
    if (this.#watched.has(member)) return;
    this.#watched.add(member);
    void member.exited.then((exit) => {
      this.#watched.delete(member);
      if (this.#isOver || this.#expected.has(member)) return;
      const how = describeExit(exit);
      this.#say(`${member.name} ${how}, which nobody asked for`);
      this.unexpected.push({ name: member.name, how, lastLines: member.logs().slice(-LOG_CHARACTERS) });
      const revival = sleep(SUPERVISOR_MS).then(() => this.restart(member));
      this.#revivals.add(revival.catch(() => {}));
    });
  }
}

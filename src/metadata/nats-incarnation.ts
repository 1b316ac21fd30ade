/**
 * Which metadata the cluster has: a name, which its streams bear and processes remember beside their data, so that nobody goes
 * on with streams that were made anew, as if nothing had ever been stored.
 *
 * | the entry                | a process that remembers                     | does                                          |
 * |--------------------------|----------------------------------------------|-----------------------------------------------|
 * | none                     | nothing                                      | makes the entry, then the streams             |
 * | making                   | anything                                     | waits; makes them where the maker is too slow |
 * | none                     | a name                                       | refuses                                       |
 * | ready, its streams there | nothing, the name, or one that it succeeds   | goes on, and remembers the name               |
 * | ready                    | another name, or meets other streams         | refuses                                       |
 * | rebuilding               | anything                                     | a node goes on, and says what it remembers    |
 */
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import { z } from "zod";
import { StoreError } from "../domain/errors.ts";
import { createMessageCodec } from "../domain/message-codec.ts";
import type { ProcessRole } from "../domain/node-info.ts";
import { deadlineIn, remainingMs } from "../lib/deadline.ts";
import { openKv, replaceKv, untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { ensureMetadataStreams, incarnationOf } from "./nats-metadata-streams.ts";

export type Incarnation =
  | { readonly state: "making"; readonly name: string; readonly maker: string }
  /** `succeeds`: names of the metadata that this one was made from. */
  | { readonly state: "ready"; readonly name: string; readonly succeeds: readonly string[] }
  | { readonly state: "rebuilding"; readonly met: readonly string[] };

/** What this process remembers beside its data. */
export type IncarnationMemory = { read(): Promise<string | null>; write(name: string): Promise<void> };

const names = z.array(z.string());
const incarnationCodec = createMessageCodec<Incarnation>(
  "the incarnation of the metadata",
  z.discriminatedUnion("state", [
    z.object({ state: z.literal("making"), name: z.string(), maker: z.string() }),
    z.object({ state: z.literal("ready"), name: z.string(), succeeds: names }),
    z.object({ state: z.literal("rebuilding"), met: names }),
  ]),
);

const KEY = "incarnation";
const JOIN_MS = 60_000;
const REQUEST_MS_MAX = 5_000;
const MAKER_MS_MAX = 20_000;
const MAKER_LOOK_MS = 100;
const STREAM_NOT_FOUND = 10_059;

export class NatsIncarnation {
  readonly #link: NatsLink;
  readonly #kv: KV;

  private constructor(link: NatsLink, kv: KV) {
    this.#link = link;
    this.#kv = kv;
  }

  /** @throws {StoreError} `nats_unavailable` */
  static async open(link: NatsLink): Promise<NatsIncarnation> {
    return new NatsIncarnation(link, await openKv(link, link.names.settingsBucket));
  }

  /**
   * Makes sure that this process and the metadata belong together.
   * @throws {StoreError} `metadata_lost`, `nats_unavailable`, `cluster_mismatch`
   */
  async join(role: ProcessRole, streamCount: number, memory: IncarnationMemory): Promise<void> {
    const remembered = await memory.read();
    for (;;) {
      const { entry, revision } = await this.read();
      if (entry === null) {
        if (remembered !== null) throw this.#lost("there is no trace of it");
        await this.replace({ state: "making", name: this.newName(), maker: this.#link.processName }, revision);
        continue;
      }
      if (entry.state === "making") {
        await this.#make(entry, revision, streamCount);
        continue;
      }
      if (entry.state === "rebuilding") {
        if (role !== "node") throw this.#lost("it is being made anew; start this process again when that is done");
        if (remembered === null || entry.met.includes(remembered)) return;
        await this.replace({ ...entry, met: [...entry.met, remembered] }, revision);
        continue;
      }
      if (remembered !== null && remembered !== entry.name && !entry.succeeds.includes(remembered)) {
        throw this.#lost("the metadata there is not the one that the data of this process belongs to");
      }
      if (!(await this.areStreamsOf(entry.name, streamCount))) {
        throw this.#lost("its streams are gone, or were made anew");
      }
      if (remembered !== entry.name) await memory.write(entry.name);
      return;
    }
  }

  /** `revision` is 0 where there is none. @throws {StoreError} `nats_unavailable` */
  async read(): Promise<{ readonly entry: Incarnation | null; readonly revision: number }> {
    return await this.#answered("read the incarnation of the metadata", async () => {
      const found = await this.#kv.get(KEY);
      if (found === null || found.operation !== "PUT") return { entry: null, revision: 0 };
      return { entry: incarnationCodec.decode(found.value), revision: found.revision };
    });
  }

  /** False when another process was faster: then it is to be read again. */
  async replace(entry: Incarnation, revision: number): Promise<boolean> {
    const replaced = () => replaceKv(this.#kv, KEY, incarnationCodec.encode(entry), revision);
    return (await this.#answered("write the incarnation of the metadata", replaced)) !== null;
  }

  /** One makes them: two at once would each give them an age of its own. */
  async #make(entry: Incarnation & { state: "making" }, revision: number, streamCount: number): Promise<void> {
    const { clock, processName } = this.#link;
    if (entry.maker !== processName) {
      const deadline = deadlineIn(clock, MAKER_MS_MAX);
      while (remainingMs(clock, deadline) > 0) {
        await clock.sleep(MAKER_LOOK_MS);
        if ((await this.read()).revision !== revision) return;
      }
    }
    await ensureMetadataStreams(this.#link, streamCount, entry.name);
    await this.replace({ state: "ready", name: entry.name, succeeds: [] }, revision);
  }

  /** Whether all streams are there, and bear this name. */
  async areStreamsOf(name: string, streamCount: number): Promise<boolean> {
    const manager = await jetstreamManager(this.#link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
    const isOf = async (index: number): Promise<boolean> => {
      try {
        const { config } = await manager.streams.info(this.#link.names.metadataStream(index));
        return incarnationOf(config) === name;
      } catch (cause) {
        // Anything else, such as a stream without a leader, proves nothing.
        if (cause instanceof JetStreamApiError && cause.code === STREAM_NOT_FOUND) return false;
        throw cause;
      }
    };
    const verdicts = await this.#answered("look at the metadata streams", () =>
      Promise.all(Array.from({ length: streamCount }, (_, index) => isOf(index))),
    );
    return verdicts.every(Boolean);
  }

  newName(): string {
    return Buffer.from(this.#link.random.bytes(16)).toString("hex");
  }

  #answered<T>(action: string, work: () => Promise<T>): Promise<T> {
    return untilAnswered(this.#link, deadlineIn(this.#link.clock, JOIN_MS), action, work);
  }

  #lost(reason: string): StoreError {
    return new StoreError(
      "metadata_lost",
      `The metadata of cluster ${this.#link.names.clusterName} is lost: ${reason}. ` +
        "Restore JetStream's store, or make the metadata anew from the nodes with kintsugi rebuild-metadata --cluster",
    );
  }
}

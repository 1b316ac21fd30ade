/**
 * Which metadata the cluster has, by name and by the streams that hold it. Processes remember the name beside their data, so
 * that nobody goes on with streams that were made anew, as if nothing had ever been stored.
 *
 * | the entry                | a process that remembers                     | does                                          |
 * |--------------------------|----------------------------------------------|-----------------------------------------------|
 * | none                     | nothing                                      | makes the streams and the entry               |
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
import { deadlineIn } from "../lib/deadline.ts";
import { openKv, replaceKv, untilAnswered } from "../nats/nats-kv.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import { ensureMetadataStreams } from "./nats-metadata-streams.ts";

export type Incarnation =
  | {
      readonly state: "ready";
      readonly name: string;
      /** Names of the metadata that this one was made from. */
      readonly succeeds: readonly string[];
      /** When each stream was made. */
      readonly streams: readonly string[];
    }
  | { readonly state: "rebuilding"; readonly met: readonly string[] };

/** What this process remembers beside its data. */
export type IncarnationMemory = { read(): Promise<string | null>; write(name: string): Promise<void> };

const names = z.array(z.string());
const incarnationCodec = createMessageCodec<Incarnation>(
  "the incarnation of the metadata",
  z.discriminatedUnion("state", [
    z.object({ state: z.literal("ready"), name: z.string(), succeeds: names, streams: names }),
    z.object({ state: z.literal("rebuilding"), met: names }),
  ]),
);

const KEY = "incarnation";
const JOIN_MS = 60_000;
const REQUEST_MS_MAX = 5_000;
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
        await ensureMetadataStreams(this.#link, streamCount);
        const streams = await this.streamsMade(streamCount);
        await this.replace({ state: "ready", name: this.newName(), succeeds: [], streams }, revision);
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
      const made = await this.streamsMade(streamCount);
      if (made.join() !== entry.streams.join()) throw this.#lost("its streams are gone, or were made anew");
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

  /** When each stream was made; "" for one that is not there. */
  async streamsMade(streamCount: number): Promise<string[]> {
    const manager = await jetstreamManager(this.#link.connection, { checkAPI: false, timeout: REQUEST_MS_MAX });
    const madeAt = async (index: number): Promise<string> => {
      try {
        return String((await manager.streams.info(this.#link.names.metadataStream(index))).created);
      } catch (cause) {
        // Anything else, such as a stream without a leader, proves nothing.
        if (cause instanceof JetStreamApiError && cause.code === STREAM_NOT_FOUND) return "";
        throw cause;
      }
    };
    return await this.#answered("look at the metadata streams", () =>
      Promise.all(Array.from({ length: streamCount }, (_, index) => madeAt(index))),
    );
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

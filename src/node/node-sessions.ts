import { createSecretKey } from "node:crypto";
import {
  isHeadProved,
  parseHeadProof,
  NONCE_BYTES,
  SESSION_ID_BYTES,
  sessionName,
  type ClusterProof,
  type SessionKeys,
} from "../blob/node-proof.ts";
import { FrameReader, FrameSealer } from "../blob/wire-frame.ts";
import type { NodeName } from "../domain/ids.ts";
import { BULK_MAC_KEY_BYTES, chooseBulkMac, rankBulkMacs, type BulkMacName } from "../lib/bulk-mac.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import { ReplayWindow } from "../lib/replay-window.ts";
import { Refusal, sessionUnknown } from "./refusal.ts";

export type NodeSessionsOptions = {
  readonly node: NodeName;
  readonly proof: ClusterProof;
  readonly clock: Clock;
  readonly random: Random;
};

/** What reads a request that is proved and seals its answer. */
export type ProvedRequest = { readonly reader: FrameReader; readonly sealer: FrameSealer };

type Session = { readonly keys: SessionKeys; readonly window: ReplayWindow };

/** Requests of one client that may overtake each other on the way. */
const WINDOW_SIZE = 64 * 1_024;
/** Sessions that have carried a request; the least recently used gives way. */
const PROVED_MAX = 1_024;
/** Handshakes whose first request is still to come. A stranger who plays old ones again fills this and nothing else. */
const GREETED_MAX = 256;

/** The sessions of one node. They live in memory: a client that finds them gone makes another. */
export class NodeSessions {
  readonly #options: NodeSessionsOptions;
  readonly #macs: readonly BulkMacName[];
  readonly #proved = new Map<string, Session>();
  readonly #greeted = new Map<string, SessionKeys>();

  constructor(options: NodeSessionsOptions) {
    this.#options = options;
    this.#macs = rankBulkMacs(options.clock, createSecretKey(options.random.bytes(BULK_MAC_KEY_BYTES)));
  }

  get count(): number {
    return this.#proved.size;
  }

  /** Answers a handshake. @throws {Refusal} when it proves nothing or means another node */
  greet(bytes: Buffer): Buffer {
    const { node, proof, random } = this.#options;
    const hello = proof.openHello(bytes);
    if (hello === null) {
      throw new Refusal(403, "node_refused", "The handshake does not prove the secret of this node's cluster");
    }
    if (hello.node !== node) {
      throw new Refusal(403, "node_refused", `This is node ${node}, the handshake is meant for another`);
    }
    const mac = chooseBulkMac(this.#macs, hello.macs);
    if (mac === null) throw new Refusal(400, "format_unknown", "No algorithm is known to both sides");
    const answer = { sessionId: random.bytes(SESSION_ID_BYTES), nodeNonce: random.bytes(NONCE_BYTES), mac };
    dropOldest(this.#greeted, GREETED_MAX);
    this.#greeted.set(sessionName(answer.sessionId), proof.sessionKeys(hello, answer));
    return proof.sealHelloAnswer(bytes, answer);
  }

  /** Lets a request in by the proof in its head. Each proof does so once. @throws {Refusal} */
  admit(header: string | string[] | undefined, target: string, bodyBytes: number | null): ProvedRequest {
    const proof = parseHeadProof(header);
    if (proof === null)
      throw new Refusal(403, "node_refused", "The request does not prove the secret of this node's cluster");
    const known = this.#proved.get(proof.sessionId);
    const keys = known?.keys ?? this.#greeted.get(proof.sessionId);
    if (keys === undefined) throw sessionUnknown();
    if (!isHeadProved(keys, proof, target, bodyBytes)) {
      throw new Refusal(403, "node_refused", "The proof of the request is wrong");
    }
    const session = known ?? { keys, window: new ReplayWindow(WINDOW_SIZE) };
    this.#keep(proof.sessionId, session);
    if (!session.window.admit(proof.counter)) throw sessionUnknown();
    return {
      reader: new FrameReader(keys.toNode, proof.counter),
      sealer: new FrameSealer(keys.toClient, proof.counter),
    };
  }

  /** The order of the map is that of use. */
  #keep(id: string, session: Session): void {
    this.#greeted.delete(id);
    this.#proved.delete(id);
    dropOldest(this.#proved, PROVED_MAX);
    this.#proved.set(id, session);
  }
}

function dropOldest(sessions: Map<string, unknown>, max: number): void {
  if (sessions.size < max) return;
  for (const id of sessions.keys()) {
    sessions.delete(id);
    return;
  }
}

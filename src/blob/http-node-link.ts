/**
 * The way to one node: connections that are kept, the session, and what the last answers said of the node's state.
 *
 * Requests are repeated in two cases only, both without any doubt or harm: the node does not know the session and so has
 * done nothing, or a kept connection turned out to be closed before a byte of the answer had come. The second may mean
 * that the node did it and nobody heard; everything that is sent this way can be done twice.
 */
import { StoreError } from "../domain/errors.ts";
import type { NodeName } from "../domain/ids.ts";
import type { NodeState } from "../domain/node-info.ts";
import type { Clock } from "../lib/clock.ts";
import type { Deadline } from "../lib/deadline.ts";
import type { HostAndPort, HttpConnection } from "../lib/http-connection.ts";
import { HttpPool } from "../lib/http-pool.ts";
import type { Random } from "../lib/random.ts";
import { NodeAnswer, type FrameSink, type NodeOutcome } from "./http-answer.ts";
import { clientClosed, nodeUnreachable, outcomeUnknown } from "./http-blob-errors.ts";
import { CallGuard } from "./http-call-guard.ts";
import { refusalOf, shakeHands, type ClientSession, type RequestSeal } from "./http-session.ts";
import type { CallOutcome, NodeClientMetrics } from "./metrics.ts";
import { ClusterProof } from "./node-proof.ts";

export type NodeLinkOptions = {
  readonly node: NodeName;
  /** `http://host:port`, null while nobody knows where the node is. */
  readonly addressOf: () => string | null;
  readonly clusterSecret: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: NodeClientMetrics;
  readonly onState: (state: "live" | "down") => void;
};

export type NodeCall = FrameSink & {
  /** For errors: `read cells`. */
  readonly action: string;
  readonly target: string;
  /** Of the one request frame. */
  readonly payload: Uint8Array;
  readonly deadline: Deadline;
  readonly signal?: AbortSignal | undefined;
  /** True when a call without an answer leaves the question open whether the node did it. */
  readonly mutates: boolean;
};

/** A connection with a request of its own that the caller drives; `seal` makes its parts. */
export type OpenRequest = {
  readonly connection: HttpConnection;
  readonly session: ClientSession;
  readonly host: string;
  readonly seal: RequestSeal;
};

/** Below the time that a node keeps idle connections. */
const POOL = { idleMs: 30_000, idleMax: 64, connectMsMax: 3_000 };
/** First try, one for a session that the node forgot, one for a connection that was closed. */
const ATTEMPTS_MAX = 3;

type Attempt = NodeOutcome | { readonly kind: "stale" };

export class NodeLink {
  readonly node: NodeName;
  readonly clock: Clock;
  readonly #options: NodeLinkOptions;
  readonly #proof: ClusterProof;
  readonly #pool: HttpPool;
  #session: Promise<ClientSession> | null = null;
  #told: NodeState = "live";
  #isReachable = true;
  #isClosed = false;
  #addressText = "";
  #parsedAddress: HostAndPort = { host: "", port: 0 };

  constructor(options: NodeLinkOptions) {
    this.node = options.node;
    this.clock = options.clock;
    this.#options = options;
    this.#proof = new ClusterProof(options.clusterSecret);
    this.#pool = new HttpPool(options.clock, POOL);
  }

  /** What the node's last answer said, or down when there was none. */
  state(): NodeState {
    return this.#isClosed || !this.#isReachable || this.#options.addressOf() === null ? "down" : this.#told;
  }

  close(): void {
    this.#isClosed = true;
    this.#pool.close();
  }

  assertOpen(action: string): void {
    if (this.#isClosed) throw clientClosed(this.node, action);
  }

  noteAnswer(state: NodeState): void {
    this.#told = state;
    this.#isReachable = true;
    if (!this.#isClosed) this.#options.onState("live");
  }

  noteFailure(): void {
    this.#isReachable = false;
    if (!this.#isClosed) this.#options.onState("down");
  }

  /**
   * Sends one request and gives the frames of its answer to the call. Once this has settled nothing of the call is used
   * any more. @throws {StoreError} what the node answered, `node_unavailable`, `node_refused`, or `deadline_exceeded`
   */
  async call(call: NodeCall): Promise<void> {
    this.assertOpen(call.action);
    const { clock, metrics } = this.#options;
    const guard = new CallGuard(clock, call.deadline, call.signal);
    const startedMs = clock.monotonicMs();
    const observe = (outcome: CallOutcome) =>
      metrics.observe(this.node, call.target, outcome, clock.monotonicMs() - startedMs);
    let outcome;
    try {
      outcome = await this.#answered(call, guard);
    } catch (cause) {
      const isAborted = guard.reason === "aborted";
      if (!isAborted) this.noteFailure();
      observe(isAborted ? "aborted" : "failed");
      throw cause instanceof StoreError ? cause : this.#failureOf(call, guard, cause);
    } finally {
      guard.end();
    }
    observe(outcome.error === null ? "ok" : "error");
    if (outcome.error !== null) throw outcome.error;
  }

  /**
   * A connection and a seal for a request that the caller sends and reads himself, and gives back with `release`.
   * @throws {StoreError} `node_unavailable`, `node_refused`
   */
  async openRequest(action: string, deadline: Deadline): Promise<OpenRequest> {
    this.assertOpen(action);
    const guard = new CallGuard(this.clock, deadline, undefined);
    try {
      const address = this.#address();
      const session = await guard.race(this.#openSession());
      const connection = await this.#connect(address, guard, false);
      return { connection, session, host: hostOf(address), seal: session.begin() };
    } catch (cause) {
      this.noteFailure();
      if (cause instanceof StoreError) throw cause;
      const failure = guard.reason === "expired" ? outcomeUnknown : nodeUnreachable;
      throw failure(this.node, action, reasonOf(cause), cause);
    } finally {
      guard.end();
    }
  }

  /** Takes a connection back; one that still has something under way is closed. */
  release(connection: HttpConnection): void {
    this.#pool.give(connection);
  }

  /** The node does not know this session any more: the next request makes another. */
  async forget(session: ClientSession): Promise<void> {
    if ((await this.#session?.catch(() => null)) === session) this.#session = null;
  }

  async #answered(call: NodeCall, guard: CallGuard): Promise<NodeOutcome & { kind: "answered" }> {
    let fresh = false;
    for (let attempt = 1; ; attempt += 1) {
      const address = this.#address();
      const session = await guard.race(this.#openSession());
      const connection = await this.#connect(address, guard, fresh);
      const outcome = await this.#attempt(call, guard, session, connection);
      if (outcome.kind === "answered") return outcome;
      if (outcome.kind === "refused") {
        if (outcome.status !== 401 || attempt === ATTEMPTS_MAX)
          throw refusalOf(this.node, outcome.status, outcome.text);
        await this.forget(session);
      }
      fresh = outcome.kind === "stale";
    }
  }

  async #attempt(
    call: NodeCall,
    guard: CallGuard,
    session: ClientSession,
    connection: HttpConnection,
  ): Promise<Attempt> {
    guard.watch(connection);
    try {
      return await this.#exchange(call, guard, session, connection);
    } finally {
      guard.watch(null);
      this.#pool.give(connection);
    }
  }

  #exchange(call: NodeCall, guard: CallGuard, session: ClientSession, connection: HttpConnection): Promise<Attempt> {
    return new Promise((resolve, reject) => {
      const seal = session.begin();
      const answer = new NodeAnswer(seal.reader, call, (state) => this.noteAnswer(state));
      const isReused = connection.answers > 0;
      // Whatever is wrong with an answer, to the caller it is one that did not come.
      const fail = (cause: unknown) => reject(new Error(reasonOf(cause), { cause }));
      connection.begin({
        onHead: (status) => answer.begin(status),
        onBody: (piece) => answer.feed(piece),
        onEnd: () => {
          try {
            resolve(answer.end());
          } catch (cause) {
            fail(cause);
          }
        },
        onFailure: (cause) => {
          const isStale = isReused && !connection.answering && guard.cause === null && !this.#isClosed;
          if (isStale) resolve({ kind: "stale" });
          else fail(cause);
        },
      });
      const frameHead = seal.sealer.seal("request", NO_META, call.payload);
      const head = seal.head(call.target, hostOf(connection.address), frameHead.length + call.payload.length);
      guard.isSent = true;
      // A write that fails shows as the failure of the request.
      connection.write([head, frameHead, call.payload]).catch(() => {});
    });
  }

  /** One handshake at a time serves all who wait for a session. */
  async #openSession(): Promise<ClientSession> {
    const current = this.#session;
    if (current !== null) {
      const session = await current;
      if (!session.usedUp) return session;
      if (this.#session === current) this.#session = null;
    }
    if (this.#session === null) {
      const opening = this.#handshake();
      this.#session = opening;
      opening.catch(() => {
        if (this.#session === opening) this.#session = null;
      });
    }
    return await this.#session;
  }

  async #handshake(): Promise<ClientSession> {
    const { node, clock, random } = this.#options;
    const address = this.#address();
    const connection = await this.#pool.open(address);
    const timer = clock.startTimer(POOL.connectMsMax, () =>
      connection.destroy(new Error("no answer to the handshake")),
    );
    try {
      return await shakeHands({ node, proof: this.#proof, clock, random }, connection, hostOf(address));
    } finally {
      timer.cancel();
      this.#pool.give(connection);
    }
  }

  #connect(address: HostAndPort, guard: CallGuard, fresh: boolean): Promise<HttpConnection> {
    guard.check();
    const idle = fresh ? null : this.#pool.takeIdle(address);
    if (idle !== null) return Promise.resolve(idle);
    return guard.race(this.#pool.open(address), (late) => this.#pool.give(late));
  }

  #address(): HostAndPort {
    const text = this.#options.addressOf();
    if (text === null) throw new Error("nobody knows its address");
    if (text !== this.#addressText) {
      const { hostname, port } = new URL(text);
      this.#addressText = text;
      this.#parsedAddress = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port === "" ? 80 : port) };
    }
    return this.#parsedAddress;
  }

  #failureOf(call: NodeCall, guard: CallGuard, cause: unknown): StoreError {
    const { action } = call;
    if (this.#isClosed && !guard.isSent) return clientClosed(this.node, action);
    const reason = reasonOf(guard.cause ?? cause);
    const isUnknown = guard.reason !== null || (guard.isSent && call.mutates);
    if (isUnknown) return outcomeUnknown(this.node, action, reason, cause);
    return nodeUnreachable(this.node, action, reason, cause);
  }
}

const NO_META = Buffer.alloc(0);

export function hostOf({ host, port }: HostAndPort): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

export function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

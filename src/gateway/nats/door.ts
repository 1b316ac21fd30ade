/** The NATS door: a micro service that every gateway of a cluster offers together, see docs/nats.md. */
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import type { Registry } from "prom-client";
import { StoreError } from "../../domain/errors.ts";
import type { AssertionError } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import { deadlineIn, withDeadline, type Deadline } from "../../lib/deadline.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Random } from "../../lib/random.ts";
import { MESSAGE_BODY_BYTES_MAX, OBJECT_SERVICE, type Operation } from "../../nats/object-protocol.ts";
import type { ObjectApi } from "../object-api.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { createDoorMetrics } from "./metrics.ts";
import { announceService, newTally } from "./micro.ts";
import { createFields, createGet, createHead, createList } from "./read-handlers.ts";
import { isReplySafe } from "./request-headers.ts";
import { serveMessage, type DoorHandler } from "./serve-message.ts";
import { TransferBoard } from "./transfer-board.ts";
import { createDelete, createPatch, createPut, createUndelete } from "./write-handlers.ts";

export type NatsDoorParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly api: ObjectApi;
  /** Stays the caller's. */
  readonly connection: NatsConnection;
  /** The process's own; the door adds its metrics to it. */
  readonly registry: Registry;
  readonly version: string;
  readonly processName: string;
  /** Told of a broken invariant after its request was answered: the process should drain and stop. */
  readonly onBug: (cause: AssertionError) => void;
};

export type NatsDoorSettings = {
  readonly objectBytesMax: number;
  /** How long requests under way may take when the door closes. */
  readonly drainMs: number;
  /** Requests worked on at once, transfers included; over it the answer is `overloaded`. */
  readonly requestsMax: number;
  /** How long a transfer waits for a client that is silent; 30 s unless given. */
  readonly transferIdleMs?: number;
};

export type NatsDoor = { close(): Promise<void> };

/** What the handlers work with. */
export type HandlerDeps = {
  readonly api: ObjectApi;
  readonly board: TransferBoard;
  readonly objectBytesMax: number;
  /** Content that travels in one message. */
  readonly messageBytesMax: () => number;
  /** What a JSON answer may have. */
  readonly answerBytesMax: () => number;
};

const TRANSFER_IDLE_MS = 30_000;
/** For what has been told to stop to do so, and for clients to take note of how their transfers ended. */
const FAREWELL_MS = 1_000;

/** Resolves when the server has taken note that this gateway is there. */
export async function startNatsDoor(parts: NatsDoorParts, settings: NatsDoorSettings): Promise<NatsDoor> {
  const { clock, random, logger, api, connection, version, processName, onBug } = parts;
  const gatewayId = Buffer.from(random.bytes(8)).toString("hex");
  const idleMs = settings.transferIdleMs ?? TRANSFER_IDLE_MS;
  const board = new TransferBoard({ clock, random, logger, connection, gatewayId, idleMs });
  const metrics = createDoorMetrics(parts.registry, () => board.size);
  const limits = messageLimits(() => connection.info?.max_payload);
  const handlers = createHandlers({ api, board, objectBytesMax: settings.objectBytesMax, ...limits });

  let requestCount = 0;
  const nextRequestId = () => `${gatewayId}-${(requestCount += 1).toString(36)}`;
  const deps = { clock, logger, metrics, nextRequestId, requestsMax: settings.requestsMax, onBug };
  const running = new Set<Promise<void>>();
  const tallied = ENDPOINTS.map((endpoint) => [endpoint, newTally()] as const);
  const subscriptions: Subscription[] = tallied.map(([{ operation, subject, queueGroup }, tally]) => {
    const callback = (failure: Error | null, message: Msg) => {
      if (failure !== null) return logger.error({ operation, reason: failure.message }, "an endpoint is not served");
      const work = serveMessage(deps, operation, tally, message, handlers[operation]);
      running.add(work);
      void work.finally(() => running.delete(work));
    };
    return connection.subscribe(subject, { queue: queueGroup, callback });
  });
  const identity = {
    ...{ name: OBJECT_SERVICE, id: gatewayId, version, startedAtMs: clock.wallMs() },
    description: "Kintsugi object store: put, get, head, delete, undelete, list, patch, fields",
    metadata: { gateway: processName },
  };
  subscriptions.push(...announceService(connection, identity, tallied, isReplySafe));
  await connection.flush();

  return {
    async close() {
      const drained = deadlineIn(clock, settings.drainMs);
      await settle(clock, drained, Promise.allSettled(subscriptions.map((subscription) => endOf(subscription))));
      await settle(clock, drained, Promise.allSettled(running));
      board.failAll(new StoreError("shutting_down", "This gateway is shutting down: try another", { retriable: true }));
      await settle(clock, deadlineIn(clock, FAREWELL_MS), Promise.allSettled(running));
      await settle(clock, deadlineIn(clock, FAREWELL_MS), board.empty());
      board.close();
    },
  };
}

function createHandlers(deps: HandlerDeps): Record<Operation, DoorHandler> {
  return {
    put: createPut(deps),
    get: createGet(deps),
    head: createHead(deps),
    delete: createDelete(deps),
    undelete: createUndelete(deps),
    list: createList(deps),
    patch: createPatch(deps),
    fields: createFields(deps),
  };
}

/** What may stand in one message to clients, given what the server takes. */
function messageLimits(payloadBytesMax: () => number | undefined) {
  const half = () => Math.floor((payloadBytesMax() ?? 2 * MESSAGE_BODY_BYTES_MAX) / 2);
  return { messageBytesMax: () => Math.min(MESSAGE_BODY_BYTES_MAX, half()), answerBytesMax: half };
}

/** What has arrived is still worked on. */
async function endOf(subscription: Subscription): Promise<void> {
  if (!subscription.isClosed()) await subscription.drain();
}

/** Waits for `work`, but not for ever: what follows copes with what is left. */
async function settle(clock: Clock, deadline: Deadline, work: Promise<unknown>): Promise<void> {
  await withDeadline(clock, deadline, work, () => new Error("late")).catch(() => {});
}

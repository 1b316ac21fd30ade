/**
 * The NATS service API (ADR-32): how `nats micro` and others find this service, ask what it offers and how it does.
 * `@nats-io/services` is not used: its newest release (3.0.0-25) is typed against an older client of its own, and it
 * times a handler only until that first awaits, so that every processing time here would read zero.
 */
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import { assert } from "../../lib/assert.ts";

export type MicroEndpoint = {
  readonly name: string;
  readonly subject: string;
  readonly queueGroup: string;
  readonly metadata: Readonly<Record<string, string>>;
};

export type MicroIdentity = {
  readonly name: string;
  readonly id: string;
  /** Semantic version. */
  readonly version: string;
  readonly description: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly startedAtMs: number;
};

/** Since the start of the process. */
export type EndpointTally = {
  requests: number;
  errors: number;
  lastError: string;
  processingNs: number;
};

const API = "$SRV";
const TYPE = "io.nats.micro.v1";
const SEMVER = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/;

export function newTally(): EndpointTally {
  return { requests: 0, errors: 0, lastError: "", processingNs: 0 };
}

/** Answers for the service until the subscriptions given back are ended. */
export function announceService(
  connection: NatsConnection,
  identity: MicroIdentity,
  endpoints: readonly (readonly [endpoint: MicroEndpoint, tally: EndpointTally])[],
  isReplySafe: (subject: string) => boolean,
): Subscription[] {
  assert(SEMVER.test(identity.version), "the service has a semantic version");
  const { name, id, version, description, metadata } = identity;
  const self = { name, id, version, metadata };
  const answers = {
    PING: () => ({ type: `${TYPE}.ping_response`, ...self }),
    INFO: () => ({
      ...{ type: `${TYPE}.info_response`, ...self, description },
      endpoints: endpoints.map(([endpoint]) => ({
        ...{ name: endpoint.name, subject: endpoint.subject },
        ...{ queue_group: endpoint.queueGroup, metadata: endpoint.metadata },
      })),
    }),
    STATS: () => ({
      ...{ type: `${TYPE}.stats_response`, ...self, started: new Date(identity.startedAtMs).toISOString() },
      endpoints: endpoints.map(([endpoint, tally]) => statsOf(endpoint, tally)),
    }),
  };
  return Object.entries(answers).flatMap(([verb, answerOf]) => {
    const callback = (failure: Error | null, message: Msg) => {
      if (failure === null && isReplySafe(message.reply ?? "")) message.respond(JSON.stringify(answerOf()));
    };
    const subjects = [`${API}.${verb}`, `${API}.${verb}.${name}`, `${API}.${verb}.${name}.${id}`];
    return subjects.map((subject) => connection.subscribe(subject, { callback }));
  });
}

function statsOf(endpoint: MicroEndpoint, tally: EndpointTally) {
  return {
    name: endpoint.name,
    subject: endpoint.subject,
    queue_group: endpoint.queueGroup,
    num_requests: tally.requests,
    num_errors: tally.errors,
    last_error: tally.lastError,
    processing_time: Math.round(tally.processingNs),
    average_processing_time: tally.requests === 0 ? 0 : Math.round(tally.processingNs / tally.requests),
  };
}

/** The desk as gateways of a cluster see it: each call is one question to whoever leads. */
import { errors } from "@nats-io/transport-node";
import { isStoreError, StoreError } from "../domain/errors.ts";
import type { HealingControls, HealingJob, HealingStatus } from "../domain/healing.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { DeskRequest } from "./healing-codec.ts";
import { deskAnswerCodec, deskRequestCodec } from "./healing-codec.ts";
import type { HealingDesk } from "./healing-desk.ts";

export type NatsDeskOptions = {
  /** How long the leader may take to answer. */
  readonly answerMs?: number;
};

/** Longer than the leader takes to write what it was asked for, unless NATS elects leaders of its own. */
const ANSWER_MS = 8_000;

export function openNatsHealingDesk(link: NatsLink, { answerMs = ANSWER_MS }: NatsDeskOptions = {}): HealingDesk {
  async function ask(request: DeskRequest): Promise<unknown> {
    const { connection, names } = link;
    const bytes = deskRequestCodec.encode(request);
    const message = await connection
      .request(names.deskSubject, bytes, { timeout: answerMs, noMux: false })
      .catch((cause: unknown) => {
        throw unavailable(cause);
      });
    const answer = deskAnswerCodec.decode(message.data);
    if (!("failure" in answer)) return answer.value;
    const { code, message: told, retriable } = answer.failure;
    throw new StoreError(code, told, { retriable });
  }

  return {
    status: async () => (await ask({ ask: "status" })) as HealingStatus,
    start: async (kind, node) => (await ask({ ask: "start", kind, node })) as HealingJob,
    job: async (id) => (await ask({ ask: "job", id })) as HealingJob,
    control: async (track, change) => (await ask({ ask: "control", track, change })) as HealingControls,
    async drain(node, draining) {
      await ask({ ask: "drain", node, draining });
    },
    async remove(node) {
      await ask({ ask: "remove", node });
    },
    close: () => Promise.resolve(),
  };
}

function unavailable(cause: unknown): StoreError {
  if (isStoreError(cause)) return cause;
  const isNobody =
    cause instanceof errors.NoRespondersError || (cause instanceof errors.RequestError && cause.isNoResponders());
  const message = isNobody ? "No healer leads right now" : "The healer that leads does not answer";
  return new StoreError("healing_unavailable", message, { retriable: true, cause });
}

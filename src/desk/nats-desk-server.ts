/** The desk's other side: the healer that leads answers, for as long as it leads. */
import type { Msg } from "@nats-io/transport-node";
import { StoreError } from "../domain/errors.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { DeskAnswer, DeskRequest } from "./healing-codec.ts";
import { deskAnswerCodec, deskRequestCodec } from "./healing-codec.ts";
import type { HealingDesk } from "./healing-desk.ts";

export type DeskServerOptions = {
  readonly desk: Omit<HealingDesk, "close">;
  /** Who leads no more answers nobody: another one does, or nobody. */
  readonly isHeld: () => boolean;
};

/** Questions under way at the same time. */
const QUESTIONS_MAX = 64;

/** Answers until disposed, which waits for the answers under way. */
export function serveDesk(link: NatsLink, { desk, isHeld }: DeskServerOptions): AsyncDisposable {
  const { connection, names, logger } = link;
  const answering = new Set<Promise<void>>();
  const receive = (failure: Error | null, message: Msg) => {
    if (failure !== null) return logger.error({ cause: failure.message }, "cannot hear questions about healing");
    if (!isHeld()) return;
    if (answering.size >= QUESTIONS_MAX) {
      return reply(message, failureOf(new StoreError("overloaded", "Too many questions at once", { retriable: true })));
    }
    const answered = answer(message).finally(() => answering.delete(answered));
    answering.add(answered);
  };
  const subscription = connection.subscribe(names.deskSubject, { callback: receive });

  async function answer(message: Msg): Promise<void> {
    try {
      reply(message, { value: await dispatch(desk, deskRequestCodec.decode(message.data)) });
    } catch (cause) {
      if (!(cause instanceof StoreError)) logger.error({ cause: String(cause) }, "a question about healing failed");
      reply(message, failureOf(cause));
    }
  }

  function reply(message: Msg, told: DeskAnswer): void {
    if (isHeld() && !connection.isClosed()) message.respond(deskAnswerCodec.encode(told));
  }

  return {
    async [Symbol.asyncDispose]() {
      subscription.unsubscribe();
      await Promise.all(answering);
    },
  };
}

function failureOf(cause: unknown): DeskAnswer {
  const { code, message, retriable } =
    cause instanceof StoreError ? cause : new StoreError("internal", "The desk of healing failed");
  return { failure: { code, message, retriable } };
}

async function dispatch(desk: DeskServerOptions["desk"], request: DeskRequest): Promise<unknown> {
  switch (request.ask) {
    case "status":
      return await desk.status();
    case "start":
      return await desk.start(request.kind, request.node);
    case "job":
      return await desk.job(request.id);
    case "control": {
      const { paused, bytesPerSecond } = request.change;
      return await desk.control(request.track, {
        ...(paused === undefined ? {} : { paused }),
        ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      });
    }
    case "drain":
      await desk.drain(request.node, request.draining);
      return null;
    case "remove":
      await desk.remove(request.node);
      return null;
  }
}

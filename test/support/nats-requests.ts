/** Requests to the door as a client without any library sends them. */
import { connect, headers as newHeaders, type Msg, type NatsConnection } from "@nats-io/transport-node";
import { HEADER, operationSubject, type ErrorAnswer, type Operation } from "../../src/nats/object-protocol.ts";
import { decodeFrame, type Frame } from "../../src/nats/transfer-frame.ts";

export type RawAnswer = {
  header(name: string): string;
  readonly body: Buffer;
  /** Null for success. */
  readonly error: ErrorAnswer | null;
  json(): unknown;
};

export type RawClient = AsyncDisposable & {
  readonly connection: NatsConnection;
  request(operation: Operation, headers: Record<string, string>, body?: Uint8Array | string): Promise<RawAnswer>;
  /** Frames that arrive under `subject`, in order. */
  frames(subject: string): { next(): Promise<Frame>; readonly waiting: readonly Frame[] };
};

export async function connectRaw(servers: readonly string[]): Promise<RawClient> {
  const connection = await connect({ servers: [...servers] });
  return {
    connection,
    async request(operation, headers, body = "") {
      const sent = newHeaders();
      for (const [name, value] of Object.entries(headers)) sent.set(name, value);
      return answerOf(await connection.request(operationSubject(operation), body, { headers: sent, timeout: 20_000 }));
    },
    frames(subject) {
      const waiting: Frame[] = [];
      let wake = () => {};
      connection.subscribe(subject, {
        callback(_failure, message) {
          waiting.push(decodeFrame(message.data));
          wake();
        },
      });
      return {
        waiting,
        async next() {
          while (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve));
          return waiting.shift() as Frame;
        },
      };
    },
    [Symbol.asyncDispose]: () => connection.close(),
  };
}

function answerOf(message: Msg): RawAnswer {
  const body = Buffer.from(message.data);
  const failed = message.headers?.has(HEADER.serviceErrorCode) ?? false;
  return {
    header: (name) => message.headers?.get(name) ?? "",
    body,
    error: failed ? (JSON.parse(body.toString()) as ErrorAnswer) : null,
    json: () => JSON.parse(body.toString()) as unknown,
  };
}

/** What somebody who has NATS alone would use: Object Store, KV and plain request-reply, on three servers, R3. */
import { createRequire } from "node:module";
import { startNats } from "../../test/support/nats.ts";

const require = createRequire(import.meta.url);

/** Just what is used of it; the packages are the benchmark's own, and the sources must type-check without. */
type Connection = {
  request(subject: string, payload: Uint8Array): Promise<{ readonly data: Uint8Array }>;
  subscribe(subject: string, options: { callback: (cause: Error | null, message: Message) => void }): unknown;
  close(): Promise<void>;
};
type Message = { readonly data: Uint8Array; respond(payload: Uint8Array): boolean };
type ObjectStore = {
  putBlob(meta: { name: string }, bytes: Uint8Array): Promise<unknown>;
  getBlob(name: string): Promise<Uint8Array | null>;
};
type KeyValue = { put(key: string, bytes: Uint8Array): Promise<number>; get(key: string): Promise<unknown> };
type Manager<T> = { create(name: string, options: { replicas: number; storage?: string }): Promise<T> };

export type NatsStores = AsyncDisposable & {
  readonly objects: ObjectStore;
  readonly keyValue: KeyValue;
  /** Sends a payload and gets it back. */
  readonly echo: (payload: Uint8Array) => Promise<unknown>;
};

export async function startNatsStores(): Promise<NatsStores> {
  const { connect } = require("@nats-io/transport-node") as { connect(o: object): Promise<Connection> };
  const { Objm } = require("@nats-io/obj") as { Objm: new (connection: Connection) => Manager<ObjectStore> };
  const { Kvm } = require("@nats-io/kv") as { Kvm: new (connection: Connection) => Manager<KeyValue> };
  const stack = new AsyncDisposableStack();
  try {
    const nats = stack.use(await startNats({ servers: 3 }));
    const connection = await connect({ servers: [...nats.urls] });
    stack.defer(() => connection.close());
    const responder = await connect({ servers: [nats.urls[0]] });
    stack.defer(() => responder.close());
    responder.subscribe("echo", { callback: (_, message) => void message.respond(message.data) });
    const objects = await new Objm(connection).create("peer", { replicas: 3, storage: "file" });
    const keyValue = await new Kvm(connection).create("peer", { replicas: 3, storage: "file" });
    const opened = stack.move();
    return {
      objects,
      keyValue,
      echo: (payload) => connection.request("echo", payload),
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    };
  } catch (cause) {
    await stack.disposeAsync();
    throw cause;
  }
}

import type { CliIo } from "./io.ts";
import type { NatsAddress } from "./nats-store.ts";
import type { StoreClient } from "./store-client.ts";

/** Options that every command talking to a store takes. */
export type ClientOptions = {
  readonly url: string;
  /** Null: the store is reached by `url`. */
  readonly nats: NatsAddress | null;
  /** Null: the store's default bucket. */
  readonly bucket: string | null;
  /** Machine output: one JSON value per line on stdout, nothing else. */
  readonly json: boolean;
};

export async function withClient<T>(
  io: CliIo,
  options: ClientOptions,
  work: (client: StoreClient) => Promise<T>,
): Promise<T> {
  const client = await openClient(io, options);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Only the door that is used is loaded. */
async function openClient(io: CliIo, { url, nats }: ClientOptions): Promise<StoreClient> {
  if (nats !== null) {
    const { connectNats, natsStoreOf } = await import("./nats-store.ts");
    return natsStoreOf(io, await connectNats(io, nats));
  }
  const { RestClient } = await import("./rest-client.ts");
  const { restStoreOf } = await import("./rest-store.ts");
  return restStoreOf(new RestClient({ url, clock: io.clock, signal: io.signal }));
}

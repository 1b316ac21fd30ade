import type { CliIo } from "./io.ts";
import { RestClient } from "./rest-client.ts";

/** Options that every command talking to a store takes. */
export type ClientOptions = {
  readonly url: string;
  /** Null: the store's default bucket. */
  readonly bucket: string | null;
  /** Machine output: one JSON value per line on stdout, nothing else. */
  readonly json: boolean;
};

export async function withClient<T>(
  io: CliIo,
  options: ClientOptions,
  work: (client: RestClient) => Promise<T>,
): Promise<T> {
  const client = new RestClient({ url: options.url, clock: io.clock, signal: io.signal });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

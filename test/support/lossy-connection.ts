/**
 * A NATS connection that loses, repeats and swaps messages as told, as a broken or reconnecting one may. Only what is
 * published is touched: put it in front of either side.
 */
import type { NatsConnection, PublishOptions } from "@nats-io/transport-node";

export type Fate = "pass" | "drop" | "twice" | "late";

/** Asked for every message that is published. */
export type FateOf = (subject: string, bytes: Uint8Array) => Fate;

export function lossyConnection(connection: NatsConnection, fateOf: FateOf): NatsConnection {
  let held: (() => void) | null = null;
  const publish = (subject: string, payload: Uint8Array | string = new Uint8Array(0), options?: PublishOptions) => {
    const send = () => connection.publish(subject, payload, options);
    const fate = fateOf(subject, typeof payload === "string" ? Buffer.from(payload) : payload);
    if (fate === "late" && held === null) return void (held = send);
    if (fate !== "drop") send();
    if (fate === "twice") send();
    held?.();
    held = null;
  };
  return new Proxy(connection, {
    get(target, name) {
      if (name === "publish") return publish;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

import type { Msg, NatsConnection } from "@nats-io/transport-node";
import type { NatsLink } from "../../src/nats/nats-link.ts";

/** Sends the request for real, or not, and hands its answer on, or not. */
export type Interceptor = (subject: string, send: () => Promise<Msg>) => Promise<Msg>;

/** A link on whose way to the servers requests and answers can be lost or delayed. */
export function interceptRequests(link: NatsLink, intercept: Interceptor): NatsLink {
  const request: NatsConnection["request"] = (subject, ...rest) =>
    intercept(subject, () => link.connection.request(subject, ...rest));
  const connection = new Proxy(link.connection, {
    get(target, name) {
      const value: unknown = name === "request" ? request : Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { ...link, connection };
}

import { BlockList, isIP, isIPv6 } from "node:net";
import type { IncomingMessage } from "node:http";

/** Tells who a request comes from: an IP address in its plainest spelling, or "unknown". */
export type ClientAddressOf = (incoming: IncomingMessage) => string;

/**
 * Believes `X-Forwarded-For` only from the given proxies (addresses or CIDR networks): the client is the last address
 * of the chain that is no such proxy. Anyone could write what stands before it.
 */
export function createClientAddressOf(trustedProxies: readonly string[]): ClientAddressOf {
  if (trustedProxies.length === 0) return (incoming) => plainAddress(incoming.socket.remoteAddress ?? "unknown");
  const trusted = new BlockList();
  for (const proxy of trustedProxies) {
    const [network = "", prefix] = proxy.split("/");
    const family = isIPv6(network) ? "ipv6" : "ipv4";
    if (prefix === undefined) trusted.addAddress(network, family);
    else trusted.addSubnet(network, Number(prefix), family);
  }
  const isTrusted = (address: string) =>
    isIP(address) !== 0 && trusted.check(address, isIPv6(address) ? "ipv6" : "ipv4");
  return (incoming) => {
    let address = plainAddress(incoming.socket.remoteAddress ?? "unknown");
    const header = incoming.headers["x-forwarded-for"];
    const chain = (Array.isArray(header) ? header.join(",") : (header ?? "")).split(",");
    for (let hop = chain.pop(); hop !== undefined && isTrusted(address); hop = chain.pop()) {
      const claimed = plainAddress(hop.trim());
      if (isIP(claimed) === 0) break;
      address = claimed;
    }
    return address;
  };
}

/** An IPv4 address that came over an IPv6 socket is an IPv4 address. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}

import { StoreError } from "../../domain/errors.ts";
import type { HeaderList, HttpExchange } from "../../runtime/http-exchange.ts";

export async function sendJson(
  exchange: HttpExchange,
  status: number,
  headers: HeaderList,
  value: unknown,
): Promise<void> {
  await sendJsonBytes(exchange, status, headers, Buffer.from(JSON.stringify(value)));
}

export async function sendJsonBytes(
  exchange: HttpExchange,
  status: number,
  headers: HeaderList,
  json: Uint8Array,
): Promise<void> {
  headers.push("Content-Type", "application/json", "Content-Length", String(json.length));
  await exchange.send(status, headers, exchange.method === "HEAD" ? null : json);
}

/** A body where none has a meaning is a client that is confused about what it sends. */
export function refuseBody(exchange: HttpExchange): void {
  if (!exchange.body.unread) return;
  throw new StoreError("request_malformed", `A ${exchange.method} request has no body here`);
}

import type { Consistency, Receipt } from "../domain/receipt.ts";
import type { StrategyChoice } from "../domain/manifest.ts";
import { encodeHeaderText, HEADER, MESSAGE_BODY_BYTES_MAX } from "../nats/object-protocol.ts";
import { addressHeaders, conditionHeaders, type BucketOptions, type WriteConditions } from "./address.ts";
import { backoffMs, callGateway, type CallHeaders } from "./call.ts";
import type { GatewayLink } from "./gateway-link.ts";
import { KintsugiError } from "./kintsugi-error.ts";
import { readBeginning, sourceOf, type PutBody, type PutSource } from "./put-source.ts";
import { sendUpload } from "./upload.ts";

export type PutOptions = BucketOptions &
  WriteConditions & {
    /** The bucket's unless given. */
    readonly strategy?: StrategyChoice;
    readonly consistency?: Consistency;
    readonly contentType?: string;
    /** Names are lower case; what HTTP allows in a header's name. */
    readonly userMetadata?: Readonly<Record<string, string>>;
    /** Lower-case hex; a body with another one is refused. */
    readonly sha256?: string;
    /** Of a stream, where it is known: the store can plan better. */
    readonly sizeBytes?: number;
    /**
     * Also repeat a put that may have happened already. Right where this client alone writes the key: between the two, a
     * write of somebody else's would be undone. A condition that held the first time no longer does the second.
     */
    readonly repeatInDoubt?: boolean;
  };

/** How often a transfer starts over by itself. */
const RESTARTS_MAX = 5;

/** Stores one object. @throws {KintsugiError} */
export async function putObject(link: GatewayLink, key: string, body: PutBody, options: PutOptions): Promise<Receipt> {
  const headers = putHeaders(key, options);
  const source = sourceOf(body, options.sizeBytes ?? null);
  const repeatInDoubt = options.repeatInDoubt ?? false;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await putOnce(link, headers, source, repeatInDoubt);
    } catch (cause) {
      if (!(cause instanceof KintsugiError) || !cause.retriable) throw cause;
      if (cause.outcomeUnknown && !repeatInDoubt) throw cause;
      if (!source.repeatable || attempt === RESTARTS_MAX || link.connection.isClosed()) throw cause;
      await link.clock.sleep(backoffMs(link, attempt, cause.retryAfterMs));
    }
  }
}

async function putOnce(
  link: GatewayLink,
  headers: CallHeaders,
  source: PutSource,
  repeatInDoubt: boolean,
): Promise<Receipt> {
  const messageBytesMax = Math.min(MESSAGE_BODY_BYTES_MAX, (link.connection.info?.max_payload ?? Infinity) / 2);
  const beginning = await readBeginning(source, messageBytesMax);
  if ("chunks" in beginning) {
    const size = source.sizeBytes === null ? [] : [[HEADER.size, String(source.sizeBytes)] as const];
    return await sendUpload(link, [...headers, ...size], beginning.chunks);
  }
  const { whole } = beginning;
  if (source.sizeBytes !== null && source.sizeBytes !== whole.length) {
    throw new KintsugiError(
      "body_incomplete",
      `The body has ${whole.length} bytes, ${source.sizeBytes} were announced`,
    );
  }
  const answer = await callGateway(link, { operation: "put", headers, body: whole, repeatable: repeatInDoubt });
  return answer.json<Receipt>();
}

function putHeaders(key: string, options: PutOptions): CallHeaders {
  const headers: [string, string][] = [...addressHeaders(key, options), ...conditionHeaders(options)];
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined) headers.push([name, value]);
  };
  add(HEADER.strategy, options.strategy);
  add(HEADER.consistency, options.consistency);
  add(HEADER.contentType, options.contentType);
  add(HEADER.sha256, options.sha256);
  for (const [name, value] of Object.entries(options.userMetadata ?? {})) {
    if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) {
      throw new KintsugiError("header_invalid", `${JSON.stringify(name)} is no lower-case name for user metadata`);
    }
    headers.push([HEADER.metaPrefix + name, encodeHeaderText(value)]);
  }
  return headers;
}

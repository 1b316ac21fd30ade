import { StoreError } from "../../domain/errors.ts";
import { LIMITS } from "../../limits.ts";
import { summarizeObject } from "../object-info.ts";
import type { ObjectApi } from "../object-api.ts";
import { refuseBody, sendJson } from "./answer.ts";
import type { RestHandler } from "./serve-route.ts";
import { bucketOf, parseQuery } from "./target.ts";

const LIMIT_DEFAULT = 100;
/** What a prefix, a delimiter or a start may be long: nothing longer can match a key. */
const TEXT_BYTES_MAX = LIMITS.keyBytesMax;

/** `GET /objects`: one page of a bucket, in the byte order of the keys. */
export function createListRoute(api: ObjectApi): RestHandler {
  return async ({ exchange, requestId, query }) => {
    refuseBody(exchange);
    const parameters = parseQuery(query, ["bucket", "prefix", "delimiter", "after", "limit"]);
    const bucket = bucketOf(parameters);
    const options = {
      prefix: textOf("prefix", parameters.prefix),
      delimiter: textOf("delimiter", parameters.delimiter),
      after: textOf("after", parameters.after),
      limit: limitOf(parameters.limit),
    };
    const page = await api.list(bucket, options);
    const { entries, commonPrefixes, next } = page;
    const listing = { bucket, ...options, objects: entries.map(summarizeObject), commonPrefixes, next };
    await sendJson(exchange, 200, ["X-Request-Id", requestId], listing);
  };
}

function textOf(name: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (Buffer.byteLength(value) > TEXT_BYTES_MAX || value.includes("\0")) {
    throw new StoreError("parameter_invalid", `The parameter ${name} is longer than a key or holds a NUL character`);
  }
  return value;
}

function limitOf(value: string | undefined): number {
  if (value === undefined) return LIMIT_DEFAULT;
  const limit = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  if (limit >= 1 && limit <= LIMITS.listPageMax) return limit;
  throw new StoreError("parameter_invalid", `The parameter limit is a number from 1 to ${LIMITS.listPageMax}`);
}

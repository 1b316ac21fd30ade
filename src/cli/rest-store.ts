import { encodeQuery, objectTarget, quoteTag } from "./targets.ts";
import { CliError, EXIT } from "./exit.ts";
import type { RestClient } from "./rest-client.ts";
import type { ListAnswer, PutDetails, ReceiptAnswer, StoreClient } from "./store-client.ts";

/** A store reached over HTTP. Owns `client`. */
export function restStoreOf(client: RestClient): StoreClient {
  return {
    async put(key, body, options) {
      const { bucket, strategy, consistency } = options;
      return (await client.requestJson({
        method: "PUT",
        target: objectTarget(key, { bucket, strategy, consistency }),
        headers: putHeaders(options),
        body: { chunks: body.open(), sizeBytes: body.sizeBytes },
      })) as ReceiptAnswer;
    },
    async get(key, { bucket, range, fields }) {
      const target = objectTarget(key, { bucket, fields });
      const headers: Record<string, string> = range === null ? {} : { range: `bytes=${range}` };
      const { status, headers: told, chunks } = await client.request({ method: "GET", target, headers });
      const length = told["content-length"];
      const digest = told["x-kintsugi-sha256"];
      const whole = status === 200 && typeof digest === "string" && digest !== "";
      return { sizeBytes: length === undefined ? null : Number(length), sha256: whole ? digest : null, chunks };
    },
    describe: (key, bucket) => client.requestJson({ method: "GET", target: objectTarget(key, { info: true, bucket }) }),
    async list({ prefix, delimiter, after, limit, bucket }) {
      const target = `/objects${encodeQuery({ prefix, delimiter, after, limit, bucket })}`;
      return (await client.requestJson({ method: "GET", target })) as ListAnswer;
    },
    async remove(key, bucket) {
      const response = await client.request({ method: "DELETE", target: objectTarget(key, { bucket }) });
      for await (const _ of response.chunks);
    },
    undelete: async (key, bucket) =>
      (await client.requestJson({
        method: "POST",
        target: objectTarget(key, { undelete: true, bucket }),
      })) as ReceiptAnswer,
    async patch(key, patch, { bucket, consistency, ifMatch }) {
      return (await client.requestJson({
        method: "PATCH",
        target: objectTarget(key, { bucket, consistency }),
        headers: {
          "content-type": "application/merge-patch+json",
          ...(ifMatch === null ? {} : { "if-match": quoteTag(ifMatch) }),
        },
        body: { chunks: [patch], sizeBytes: patch.length },
      })) as ReceiptAnswer;
    },
    status: async () => ({
      health: await client
        .requestJson({ method: "GET", target: "/cluster/health", accept: [503] })
        .catch((cause: unknown) => {
          throw notAGateway(cause);
        }),
      stats: await client.requestJson({ method: "GET", target: "/cluster/stats" }),
    }),
    async close() {
      client.close();
    },
  };
}

/** Nodes and healers listen too, and know nothing of the others. */
function notAGateway(cause: unknown): unknown {
  const isMissing = cause instanceof CliError && /^(?:object_not_found|request_malformed|http_404)$/.test(cause.code);
  const message = "There is no gateway at this address, which alone can tell: give --url that of a gateway";
  return isMissing ? new CliError(EXIT.failure, "not_a_gateway", message) : cause;
}

function putHeaders(options: PutDetails): Record<string, string> {
  const headers: Record<string, string> = { "content-type": options.contentType };
  for (const [name, value] of Object.entries(options.userMetadata)) {
    // Metadata is UTF-8 on the wire, and a header takes one byte per character.
    headers[`x-kintsugi-meta-${name}`] = Buffer.from(value, "utf8").toString("latin1");
  }
  if (options.ifMatch !== null) headers["if-match"] = quoteTag(options.ifMatch);
  if (options.ifNoneMatch !== null) headers["if-none-match"] = quoteTag(options.ifNoneMatch);
  return headers;
}

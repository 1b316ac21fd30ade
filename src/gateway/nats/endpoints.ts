/** What the service offers: which headers each operation knows, and the schema that it shows to `nats micro info`. */
import { HEADER, OPERATIONS, operationSubject, OBJECT_SERVICE, type Operation } from "../../nats/object-protocol.ts";
import type { MicroEndpoint } from "./micro.ts";

type HeaderName = Exclude<keyof typeof HEADER, "serviceError" | "serviceErrorCode">;

type Offer = {
  readonly about: string;
  readonly required: readonly HeaderName[];
  readonly optional: readonly HeaderName[];
  readonly body: string;
  readonly answerHeaders: readonly HeaderName[];
  readonly answerBody: string;
};

const ADDRESS = ["bucket", "requestId"] as const satisfies readonly HeaderName[];
const CONDITIONS = ["ifMatch", "ifNoneMatch"] as const satisfies readonly HeaderName[];
const OBJECT = [
  ...(["etag", "version", "sha256", "size", "contentType", "strategy", "modifiedAt"] as const),
  ...(["metaPrefix", "outcome", "requestId"] as const),
] as const satisfies readonly HeaderName[];

const OFFERS = {
  put: {
    about: "Stores an object; a body larger than a message follows in chunks",
    required: ["key"],
    optional: [
      ...ADDRESS,
      ...CONDITIONS,
      ...(["strategy", "consistency", "contentType", "metaPrefix", "sha256", "size", "deliver"] as const),
    ],
    body: "the object's bytes, or nothing where a deliver subject is given",
    answerHeaders: ["requestId", "transfer", "chunkBytes", "window"],
    answerBody: "receipt as JSON, or nothing where a transfer begins",
  },
  get: {
    about: "Reads an object or a range of it; a larger one follows in chunks",
    required: ["key"],
    optional: [...ADDRESS, ...CONDITIONS, "range", "deliver", "window"],
    body: "",
    answerHeaders: [...OBJECT, "range", "transfer", "chunkBytes", "window"],
    answerBody: "the object's bytes, or nothing where a transfer begins",
  },
  head: {
    about: "Describes an object",
    required: ["key"],
    optional: [...ADDRESS, ...CONDITIONS],
    body: "",
    answerHeaders: OBJECT,
    answerBody: "everything the store knows of the object, as JSON",
  },
  delete: {
    about: "Deletes an object",
    required: ["key"],
    optional: [...ADDRESS, ...CONDITIONS],
    body: "",
    answerHeaders: ["requestId"],
    answerBody: '{"deleted":true}',
  },
  undelete: {
    about: "Brings a deleted object back, as a new version",
    required: ["key"],
    optional: [...ADDRESS, ...CONDITIONS],
    body: "",
    answerHeaders: ["requestId"],
    answerBody: "receipt as JSON",
  },
  list: {
    about: "One page of a bucket's objects in the byte order of their keys",
    required: [],
    optional: [...ADDRESS, "prefix", "delimiter", "after", "limit"],
    body: "",
    answerHeaders: ["requestId"],
    answerBody: "objects, commonPrefixes and next as JSON",
  },
  patch: {
    about: "Changes fields of a JSON object",
    required: ["key"],
    optional: [...ADDRESS, ...CONDITIONS, "consistency", "sha256"],
    body: "JSON merge patch (RFC 7396)",
    answerHeaders: ["requestId"],
    answerBody: "receipt as JSON",
  },
  fields: {
    about: "Some top-level fields of a JSON object",
    required: ["key", "fields"],
    optional: [...ADDRESS, ...CONDITIONS],
    body: "",
    answerHeaders: [...OBJECT, "source"],
    answerBody: "a JSON object of the fields that exist",
  },
} as const satisfies Record<Operation, Offer>;

/** All gateways together: a request goes to one of them. */
const QUEUE_GROUP = OBJECT_SERVICE;

export const ENDPOINTS: readonly (MicroEndpoint & { readonly operation: Operation })[] = OPERATIONS.map(
  (operation) => ({
    operation,
    name: operation,
    subject: operationSubject(operation),
    queueGroup: QUEUE_GROUP,
    metadata: { description: OFFERS[operation].about, schema: JSON.stringify(schemaOf(OFFERS[operation])) },
  }),
);

/** The lower-case names that an operation takes. */
export const KNOWN_HEADERS: Readonly<Record<Operation, ReadonlySet<string>>> = {
  put: namesOf(OFFERS.put),
  get: namesOf(OFFERS.get),
  head: namesOf(OFFERS.head),
  delete: namesOf(OFFERS.delete),
  undelete: namesOf(OFFERS.undelete),
  list: namesOf(OFFERS.list),
  patch: namesOf(OFFERS.patch),
  fields: namesOf(OFFERS.fields),
};

function namesOf({ required, optional }: Offer): ReadonlySet<string> {
  return new Set([...required, ...optional].map((name) => HEADER[name].toLowerCase()));
}

function schemaOf(offer: Offer) {
  const nameOf = (name: HeaderName) => (name === "metaPrefix" ? `${HEADER.metaPrefix}*` : HEADER[name]);
  return {
    request: { required: offer.required.map(nameOf), optional: offer.optional.map(nameOf), body: offer.body },
    response: { headers: offer.answerHeaders.map(nameOf), body: offer.answerBody },
  };
}

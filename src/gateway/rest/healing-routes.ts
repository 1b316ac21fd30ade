/** What an operator says to healing, and what it tells. */
import { z } from "zod";
import type { HealingDesk } from "../../desk/healing-desk.ts";
import { StoreError } from "../../domain/errors.ts";
import type { HealingJob, JobKind, Track, TrackControl } from "../../domain/healing.ts";
import { JOB_KINDS, TRACKS } from "../../domain/healing.ts";
import type { NodeName } from "../../domain/ids.ts";
import { parseNodeName } from "../../domain/ids.ts";
import { KIB } from "../../lib/bytes.ts";
import { refuseBody, sendJson } from "./answer.ts";
import type { RestHandler, RestRequest } from "./serve-route.ts";
import { decodeOnce, parseQuery } from "./target.ts";

export type HealingRoutes = Record<
  "status" | "recover" | "start" | "job" | "setControl" | "changeControl" | "drain" | "undrain" | "remove",
  RestHandler
>;

const BODY_BYTES_MAX = 4 * KIB;

const controlSchema = z.strictObject({
  paused: z.boolean().optional(),
  bytesPerSecond: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).nullable().optional(),
});

export function createHealingRoutes(desk: HealingDesk): HealingRoutes {
  return {
    async status(request) {
      plain(request);
      await answer(request, 200, await desk.status());
    },
    async recover(request) {
      plain(request);
      await accept(request, await desk.start("recover_node", nodeOf(segment(request.path, 3))));
    },
    async start(request) {
      refuseBody(request.exchange);
      const { node } = parseQuery(request.query, ["node"]);
      const kind = jobKindOf(segment(request.path, 3));
      await accept(request, await desk.start(kind, node === undefined ? null : nodeOf(node)));
    },
    async job(request) {
      plain(request);
      await answer(request, 200, await desk.job(segment(request.path, 4)));
    },
    async setControl(request) {
      const { track, change } = await readControl(request);
      await answer(request, 200, await desk.control(track, { paused: false, bytesPerSecond: null, ...change }));
    },
    async changeControl(request) {
      const { track, change } = await readControl(request);
      await answer(request, 200, await desk.control(track, change));
    },
    drain: (request) => setDraining(desk, request, true),
    undrain: (request) => setDraining(desk, request, false),
    async remove(request) {
      plain(request);
      const node = nodeOf(segment(request.path, 3));
      await desk.remove(node);
      await answer(request, 200, { node, removed: true });
    },
  };
}

async function setDraining(desk: HealingDesk, request: RestRequest, draining: boolean): Promise<void> {
  plain(request);
  const node = nodeOf(segment(request.path, 3));
  await desk.drain(node, draining);
  await answer(request, 200, { node, draining });
}

/** Asked for, and not done yet: where to look is in the answer. */
async function accept(request: RestRequest, job: HealingJob): Promise<void> {
  await answer(request, 202, job, ["Location", `/cluster/healing/jobs/${job.id}`]);
}

async function answer(request: RestRequest, status: number, value: unknown, more: string[] = []): Promise<void> {
  const headers = ["X-Request-Id", request.requestId, "Cache-Control", "no-store", ...more];
  await sendJson(request.exchange, status, headers, value);
}

function plain({ exchange, query }: RestRequest): void {
  refuseBody(exchange);
  parseQuery(query, []);
}

async function readControl({
  exchange,
  path,
  query,
}: RestRequest): Promise<{ track: Track; change: Partial<Omit<TrackControl, "runs">> }> {
  parseQuery(query, []);
  const track = trackOf(segment(path, 4));
  if (!/^application\/json\s*(?:;|$)/i.test(exchange.incoming.headers["content-type"] ?? "")) {
    throw new StoreError("media_type_unsupported", "The controls of a track have the Content-Type application/json");
  }
  const body = await exchange.body.collect(BODY_BYTES_MAX);
  const parsed = controlSchema.safeParse(parseJson(body));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new StoreError(
      "json_invalid",
      `The controls of a track are {"paused": true or false, "bytesPerSecond": a whole number, or null for the configured one}: ${issue?.message}`,
    );
  }
  const { paused, bytesPerSecond } = parsed.data;
  const change = {
    ...(paused === undefined ? {} : { paused }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  };
  return { track, change };
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as unknown;
  } catch {
    throw new StoreError("json_invalid", "The body is no JSON");
  }
}

/** The part of the path behind so many slashes, decoded once. @throws {StoreError} `parameter_invalid` */
function segment(path: string, index: number): string {
  const text = decodeOnce(path.split("/")[index] ?? "");
  if (text === null || text === "") throw new StoreError("parameter_invalid", "A part of the path cannot be read");
  return text;
}

/** What can be no name of a node is none. @throws {StoreError} `node_unknown` */
function nodeOf(text: string): NodeName {
  try {
    return parseNodeName(text);
  } catch (cause) {
    throw new StoreError("node_unknown", "There is no node of this name", { cause });
  }
}

/** @throws {StoreError} `parameter_invalid` */
function jobKindOf(text: string): JobKind {
  const kind = JOB_KINDS.find((known) => known === text);
  if (kind === undefined) throw new StoreError("parameter_invalid", `A job is one of ${JOB_KINDS.join(", ")}`);
  return kind;
}

/** @throws {StoreError} `parameter_invalid` */
function trackOf(text: string): Track {
  const track = TRACKS.find((known) => known === text);
  if (track === undefined) throw new StoreError("parameter_invalid", `A track is one of ${TRACKS.join(", ")}`);
  return track;
}

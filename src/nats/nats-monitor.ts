/** What a nats-server tells of itself over its monitoring port. */
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { z } from "zod";
import type { Clock } from "../lib/clock.ts";
import type { ServerFacts } from "./server-safety.ts";

const ANSWER_MS = 2_000;
const ANSWER_BYTES_MAX = 4 * 1_024 * 1_024;

const varzSchema = z.object({
  server_name: z.string(),
  version: z.string(),
  // A server without JetStream has an empty object here.
  jetstream: z.object({ config: z.object({ sync_always: z.boolean().default(false) }).optional() }).optional(),
});
const jszSchema = z.object({
  meta_cluster: z.object({ leader: z.string().default(""), cluster_size: z.number() }).optional(),
});
const routezSchema = z.object({ routes: z.array(z.object({ remote_name: z.string().optional() })).nullish() });

/** @throws {Error} saying in a few words why it cannot be told */
export async function readServerFacts(clock: Clock, monitorUrl: string): Promise<ServerFacts> {
  const read = <T>(path: string, schema: z.ZodType<T>) =>
    readJson(clock, new URL(`${monitorUrl.replace(/\/$/, "")}${path}`), schema);
  const [varz, jsz, routez] = await Promise.all([
    read("/varz", varzSchema),
    read("/jsz", jszSchema),
    read("/routez", routezSchema),
  ]);
  const { meta_cluster: meta } = jsz;
  const jetStream = varz.jetstream?.config;
  return {
    name: varz.server_name,
    version: varz.version,
    syncAlways: jetStream === undefined ? null : jetStream.sync_always,
    // A server alone needs nobody to elect.
    hasLeader: meta === undefined || meta.leader !== "",
    clusterSize: meta?.cluster_size ?? 1,
    peers: [...new Set((routez.routes ?? []).flatMap(({ remote_name: name }) => name ?? []))],
  };
}

async function readJson<T>(clock: Clock, url: URL, schema: z.ZodType<T>): Promise<T> {
  const parsed = schema.safeParse(JSON.parse(await readText(clock, url)));
  if (parsed.success) return parsed.data;
  throw new Error(`${url.pathname} is not that of a nats-server`);
}

function readText(clock: Clock, url: URL): Promise<string> {
  return new Promise((resolve, reject) => {
    const controller = new AbortController();
    const timer = clock.startTimer(ANSWER_MS, () => controller.abort(new Error(`no answer within ${ANSWER_MS} ms`)));
    const settle = (act: () => void) => {
      timer.cancel();
      act();
    };
    const fail = (cause: Error) => settle(() => reject(controller.signal.aborted ? controller.signal.reason : cause));
    const get = url.protocol === "https:" ? getHttps : getHttp;
    const request = get(url, { agent: false, signal: controller.signal }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("error", fail);
      response.on("data", (piece: string) => {
        text += piece;
        if (text.length > ANSWER_BYTES_MAX) request.destroy(new Error("its answer has no end"));
      });
      response.on("end", () => {
        if (response.statusCode === 200) settle(() => resolve(text));
        else fail(new Error(`status ${response.statusCode} for ${url.pathname}`));
      });
    });
    request.on("error", fail);
  });
}

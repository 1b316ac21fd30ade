/** What commands for operators ask of a gateway; over HTTP only. */
import type { HealingControls, HealingJob, HealingStatus, JobKind, TrackControl } from "../domain/healing.ts";
import type { CliIo } from "./io.ts";
import { RestClient } from "./rest-client.ts";
import { encodeQuery } from "./targets.ts";

export type OperatorOptions = {
  readonly url: string;
  /** Machine output: one JSON value per line on stdout, nothing else. */
  readonly json: boolean;
};

export type OperatorClient = {
  healing(): Promise<HealingStatus>;
  start(kind: JobKind, node: string | null): Promise<HealingJob>;
  job(id: string): Promise<HealingJob>;
  control(track: string, change: Partial<Omit<TrackControl, "runs">>): Promise<HealingControls>;
  /** As `GET /cluster/stats` tells them. */
  stats(): Promise<unknown>;
  drain(node: string, draining: boolean): Promise<void>;
  remove(node: string): Promise<void>;
};

export async function withOperator<T>(
  io: CliIo,
  { url }: OperatorOptions,
  work: (client: OperatorClient) => Promise<T>,
): Promise<T> {
  const rest = new RestClient({ url, clock: io.clock, signal: io.signal });
  try {
    return await work(operatorClientOf(rest));
  } finally {
    rest.close();
  }
}

function operatorClientOf(rest: RestClient): OperatorClient {
  const get = (target: string) => rest.requestJson({ method: "GET", target });
  const post = (target: string) => rest.requestJson({ method: "POST", target, body: NO_BODY });
  return {
    healing: async () => (await get("/cluster/healing")) as HealingStatus,
    async start(kind, node) {
      if (kind === "recover_node" && node !== null) {
        return (await post(`/cluster/recovery/${encodeURIComponent(node)}`)) as HealingJob;
      }
      return (await post(`/cluster/healing/${kind}${encodeQuery({ node })}`)) as HealingJob;
    },
    job: async (id) => (await get(`/cluster/healing/jobs/${encodeURIComponent(id)}`)) as HealingJob,
    async control(track, change) {
      const body = Buffer.from(JSON.stringify(change));
      return (await rest.requestJson({
        method: "PATCH",
        target: `/cluster/healing/tracks/${encodeURIComponent(track)}`,
        headers: { "content-type": "application/json" },
        body: { chunks: [body], sizeBytes: body.length },
      })) as HealingControls;
    },
    stats: () => get("/cluster/stats"),
    async drain(node, draining) {
      await post(`/cluster/nodes/${encodeURIComponent(node)}/${draining ? "drain" : "undrain"}`);
    },
    async remove(node) {
      await rest.requestJson({ method: "DELETE", target: `/cluster/nodes/${encodeURIComponent(node)}` });
    },
  };
}

const NO_BODY = { chunks: [], sizeBytes: 0 } as const;

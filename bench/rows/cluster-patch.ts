/** The same small change of large documents on a whole cluster, beside a KV put of the same bytes. */
import { startBenchCluster } from "../cluster-process.ts";
import { keepInFlight } from "../in-flight.ts";
import type { LoadRequest, LoadResult } from "../load.ts";
import { startNatsStores } from "../peers/nats-stores.ts";
import type { Figure, Row, RowContext } from "../row.ts";
import { median, sum } from "../statistics.ts";
import { patchObject, putObject } from "../store-client.ts";
import { runWrk } from "../wrk.ts";
import { telemetryDocument, telemetryPatch } from "../../test/support/telemetry.ts";

const CONNECTIONS = 32;
const PATCHES_PER_CONNECTION = 101;
const JSON_TYPE = "application/json";
const PATCH_HEADERS = { "content-type": "application/merge-patch+json" };

export const clusterPatch: Row = {
  name: "cluster-patch",
  title: "cluster: hot PATCH on 800 KB documents through nginx, 32 connections",
  runtimes: ["node"],
  async run(context) {
    const peer = await measureKeyValue(context);
    await using cluster = await startBenchCluster(context.directory);
    const { url } = cluster;
    for (let index = 0; index < CONNECTIONS; index++) {
      const body = telemetryDocument({ seed: index });
      await putObject(url, `/objects/own/${index}?strategy=field_hybrid`, body, JSON_TYPE);
    }
    const samples: LoadResult[] = [];
    await load(url, 2);
    for (let sample = 0; sample < context.samples; sample++) samples.push(await load(url, context.seconds));
    const receipt = await patchObject(url, "/objects/own/0", telemetryPatch(7));
    const rates = samples.map((sample) => sample.perSecond);
    const perSecond = median(rates);
    const failed = sum(samples.map((sample) => sample.failed));
    return {
      measured: [
        { label: "PATCH, a document each", value: perSecond, unit: "/s", samples: rates },
        { label: "p99", value: median(samples.map((sample) => sample.p99Ms)), unit: "ms" },
        { label: "of the KV", value: perSecond / peer.value, unit: "×" },
      ],
      yardsticks: [peer],
      aims: [
        { text: "≥ 3000/s", met: perSecond >= 3_000 },
        { text: "≥ 0.5× KV put", met: perSecond >= 0.5 * peer.value },
        { text: "0 node bytes", met: receipt.nodeBytesWritten === 0 },
        { text: "every request succeeds", met: failed === 0 },
      ],
      notes: failed === 0 ? [] : [`${failed} requests failed`],
    };
  },
};

function load(url: string, seconds: number): Promise<LoadResult> {
  return runWrk(url, { connections: CONNECTIONS, seconds, requestsOf: patches });
}

function patches(connection: number): LoadRequest[] {
  return Array.from({ length: PATCHES_PER_CONNECTION }, (_, index) => ({
    method: "PATCH",
    path: `/objects/own/${connection}`,
    headers: PATCH_HEADERS,
    body: telemetryPatch(connection * PATCHES_PER_CONNECTION + index),
  }));
}

async function measureKeyValue(context: RowContext): Promise<Figure> {
  await using stores = await startNatsStores();
  const work = (n: number) => stores.keyValue.put(`document-${n % CONNECTIONS}`, telemetryPatch(n));
  await keepInFlight(CONNECTIONS, 1, work);
  const rates: number[] = [];
  for (let sample = 0; sample < context.samples; sample++) {
    rates.push((await keepInFlight(CONNECTIONS, context.seconds, work)).perSecond);
  }
  return { label: "JetStream KV put R3, same bytes", value: median(rates), unit: "/s", samples: rates };
}

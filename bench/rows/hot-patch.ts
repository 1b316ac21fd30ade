/** Row 3: the same small change of a large document, as a merge patch and as a whole PUT. */
import { runLoad, type LoadRequest, type LoadResult } from "../load.ts";
import type { Row, RowContext } from "../row.ts";
import { startStore } from "../server-process.ts";
import { median, sum } from "../statistics.ts";
import { patchObject, putObject, readUsage } from "../store-client.ts";
import { telemetryDocument, telemetryPatch } from "../../test/support/telemetry.ts";
import { RUNTIMES } from "../../test/support/runtimes.ts";

const CONNECTIONS = 32;
const PATCHES_PER_CONNECTION = 101;
const JSON_TYPE = "application/json";
const PATCH_HEADERS = { "content-type": "application/merge-patch+json" };
const ONE_DOCUMENT = "/objects/patch/shared";

export const hotPatch: Row = {
  name: "patch-800k",
  title: "hot PATCH on an 800 KB document, 32 connections",
  runtimes: RUNTIMES,
  async run(context) {
    const store = await startStore(context.runtime, context.directory);
    await putObject(store.url, `${ONE_DOCUMENT}?strategy=field_hybrid`, telemetryDocument(), JSON_TYPE);
    for (let index = 0; index < CONNECTIONS; index++) {
      const body = telemetryDocument({ seed: index });
      await putObject(store.url, `/objects/patch/own/${index}?strategy=field_hybrid`, body, JSON_TYPE);
    }
    const before = await readUsage(store.url);
    const shared = await measure(context, store.url, (connection) => patches(ONE_DOCUMENT, connection));
    const own = await measure(context, store.url, (connection) =>
      patches(`/objects/patch/own/${connection}`, connection),
    );
    const receipt = await patchObject(store.url, ONE_DOCUMENT, telemetryPatch(7));
    const after = await readUsage(store.url);
    const nodeBytes = after.liveBytes - before.liveBytes + receipt.nodeBytesWritten;
    const whole = await measure(context, store.url, wholePuts);
    await store.stop();

    const perSecond = rate(shared);
    const ratio = perSecond / rate(whole);
    const failed = sum([...shared, ...own, ...whole].map((sample) => sample.failed));
    return {
      measured: [
        {
          label: "PATCH, one document",
          value: perSecond,
          unit: "/s",
          samples: shared.map((sample) => sample.perSecond),
        },
        { label: "p99", value: median(shared.map((sample) => sample.p99Ms)), unit: "ms" },
        {
          label: "PATCH, a document each",
          value: rate(own),
          unit: "/s",
          samples: own.map((sample) => sample.perSecond),
        },
        { label: "node bytes written", value: nodeBytes, unit: "bytes" },
        { label: "ratio", value: ratio, unit: "×" },
      ],
      yardsticks: [
        {
          label: "whole PUT with ec",
          value: rate(whole),
          unit: "/s",
          samples: whole.map((sample) => sample.perSecond),
        },
      ],
      aims: [
        { text: "≥ 3000/s", met: perSecond >= 3_000 },
        { text: "0 node bytes", met: nodeBytes === 0 },
        { text: "≥ 30× a whole PUT", met: ratio >= 30 },
        { text: "every request succeeds", met: failed === 0 },
      ],
      notes: failed === 0 ? [] : [`${failed} requests failed`],
    };
  },
};

async function measure(
  context: RowContext,
  url: string,
  requestsOf: (connection: number) => readonly LoadRequest[],
): Promise<LoadResult[]> {
  await runLoad(url, { connections: CONNECTIONS, seconds: 1, requestsOf });
  const samples: LoadResult[] = [];
  for (let sample = 0; sample < context.samples; sample++) {
    samples.push(await runLoad(url, { connections: CONNECTIONS, seconds: context.seconds, requestsOf }));
  }
  return samples;
}

function patches(path: string, connection: number): LoadRequest[] {
  return Array.from({ length: PATCHES_PER_CONNECTION }, (_, index) => ({
    method: "PATCH",
    path,
    headers: PATCH_HEADERS,
    body: telemetryPatch(connection * PATCHES_PER_CONNECTION + index),
  }));
}

/** Two bodies in turn, so that every PUT changes something. */
function wholePuts(connection: number): LoadRequest[] {
  return [0, 1].map((step) => ({
    method: "PUT",
    path: `/objects/whole/${connection}?strategy=ec`,
    headers: { "content-type": JSON_TYPE },
    body: telemetryDocument({ seed: connection * 2 + step }),
  }));
}

function rate(samples: readonly LoadResult[]): number {
  return median(samples.map((sample) => sample.perSecond));
}

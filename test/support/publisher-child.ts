/**
 * Publishes change events until it is killed: `node publisher-child.ts <cluster name> <stream count> <url>…`.
 * Prints how many it has published, again and again.
 */
import { writeSync } from "node:fs";
import { Registry } from "prom-client";
import { startEventPublisher } from "../../src/healer/nats-event-publisher.ts";
import { openTestLink } from "./test-link.ts";

const [clusterName, streamCount, ...urls] = process.argv.slice(2) as [string, string, ...string[]];
const link = await openTestLink({ urls, replicas: 1 }, { clusterName });
const registry = new Registry();
startEventPublisher(link, {
  ...{ streamCount: Number(streamCount), maxAgeMs: 3_600_000, bytesMax: 100_000_000, registry },
});
let reported = 0;
async function report(): Promise<void> {
  const { values } = (await registry.getSingleMetric("kintsugi_events_published_total")?.get()) ?? { values: [] };
  const count = values[0]?.value ?? 0;
  if (count > reported) writeSync(1, `${(reported = count)}\n`);
}
setInterval(() => void report(), 5);

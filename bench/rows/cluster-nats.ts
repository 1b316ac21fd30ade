/** Small objects over NATS, beside plain request-reply of the same bytes. */
import { startBenchCluster } from "../cluster-process.ts";
import { keepInFlight, type FlightResult } from "../in-flight.ts";
import { startNatsStores } from "../peers/nats-stores.ts";
import type { Figure, Row, RowContext } from "../row.ts";
import { median, sum } from "../statistics.ts";
import { connectKintsugi } from "../../src/client/client.ts";
import { KIB } from "../../src/lib/bytes.ts";

const IN_FLIGHT = 64;
const BODY = Buffer.alloc(KIB, "k");
const STORED_KEYS = 512;

export const clusterNats: Row = {
  name: "cluster-nats",
  title: "cluster: put and get 1 KiB over NATS, 64 in flight",
  runtimes: ["node"],
  async run(context) {
    const echo = await measureEcho(context);
    await using cluster = await startBenchCluster(context.directory);
    const { user, pass: password } = cluster.natsLogin;
    await using client = await connectKintsugi({ servers: [...cluster.natsUrls], user, password });
    const put = (key: string) => client.put(key, BODY, { strategy: "replication" });
    for (let n = 0; n < STORED_KEYS; n++) await put(`stored/${n}`);
    const puts = await measure(context, (n) => put(`put/${n}`));
    const gets = await measure(context, async (n) => {
      const found = await client.get(`stored/${n % STORED_KEYS}`);
      if ((await found?.bytes())?.length !== BODY.length) throw new Error("not what was stored");
    });
    const [putRate, getRate] = [rateOf(puts), rateOf(gets)];
    const failed = sum([...puts, ...gets].map((sample) => sample.failed));
    return {
      measured: [
        figureOf("put", puts),
        { label: "put p99", value: median(puts.map((sample) => sample.p99Ms)), unit: "ms" },
        figureOf("get", gets),
        { label: "get p99", value: median(gets.map((sample) => sample.p99Ms)), unit: "ms" },
        { label: "get of request-reply", value: getRate / echo.value, unit: "×" },
      ],
      yardsticks: [echo],
      aims: [
        { text: "put ≥ 2000/s", met: putRate >= 2_000 },
        { text: "get ≥ 5000/s", met: getRate >= 5_000 },
        { text: "every request succeeds", met: failed === 0 },
      ],
      notes: failed === 0 ? [] : [`${failed} requests failed`],
    };
  },
};

async function measureEcho(context: RowContext): Promise<Figure> {
  await using stores = await startNatsStores();
  return figureOf("bare request-reply, 1 KiB", await measure(context, () => stores.echo(BODY)));
}

async function measure(context: RowContext, work: (n: number) => Promise<unknown>): Promise<FlightResult[]> {
  await keepInFlight(IN_FLIGHT, 1, work);
  const samples: FlightResult[] = [];
  let base = 1_000_000;
  for (let sample = 0; sample < context.samples; sample++) {
    const from = base;
    samples.push(await keepInFlight(IN_FLIGHT, context.seconds, (n) => work(from + n)));
    base += 1_000_000;
  }
  return samples;
}

function rateOf(samples: readonly FlightResult[]): number {
  return median(samples.map((sample) => sample.perSecond));
}

function figureOf(label: string, samples: readonly FlightResult[]): Figure {
  return { label, value: rateOf(samples), unit: "/s", samples: samples.map((sample) => sample.perSecond) };
}

/** 16 MiB objects on a whole cluster through nginx, four clients, beside the NATS Object Store. */
import { randomBytes } from "node:crypto";
import { startBenchCluster } from "../cluster-process.ts";
import { keepInFlight } from "../in-flight.ts";
import { startNatsStores } from "../peers/nats-stores.ts";
import type { Figure, Row, RowContext } from "../row.ts";
import { median } from "../statistics.ts";
import { download, downloadSha256, upload } from "../transfer.ts";
import { MIB } from "../../src/lib/bytes.ts";
import { createHash } from "node:crypto";

const CLIENTS = 4;
const OBJECT_BYTES = 16 * MIB;
const PEER_OBJECT_BYTES = MIB;
const STORED_OBJECTS = 8;

export const clusterLarge: Row = {
  name: "cluster-16m",
  title: "cluster: PUT and GET 16 MiB ec through nginx, 4 clients",
  runtimes: ["node"],
  async run(context) {
    const [peerPut, peerGet] = await measureObjectStore(context);
    await using cluster = await startBenchCluster(context.directory);
    const { url } = cluster;
    const source = randomBytes(OBJECT_BYTES);
    const put = (n: number) => upload(url, { path: `/objects/l/${n}?strategy=ec`, source, bytes: OBJECT_BYTES });
    for (let n = 0; n < STORED_OBJECTS; n++) await put(n);
    let next = STORED_OBJECTS;
    const puts = await measure(context, OBJECT_BYTES, () => put(next++));
    const gets = await measure(context, OBJECT_BYTES, (n) => download(url, `/objects/l/${n % STORED_OBJECTS}`));
    const intact = (await downloadSha256(url, "/objects/l/0")) === createHash("sha256").update(source).digest("hex");
    const [putRate, getRate] = [median(puts), median(gets)];
    return {
      measured: [
        { label: "PUT", value: putRate, unit: "MB/s", samples: puts },
        { label: "GET", value: getRate, unit: "MB/s", samples: gets },
        { label: "PUT of the peer's", value: putRate / peerPut.value, unit: "×" },
        { label: "GET of the peer's", value: getRate / peerGet.value, unit: "×" },
      ],
      yardsticks: [peerPut, peerGet],
      aims: [
        { text: "PUT ≥ 100 MB/s", met: putRate >= 100 },
        { text: "GET ≥ 250 MB/s", met: getRate >= 250 },
        { text: "PUT ≥ 3× NATS Object Store", met: putRate >= 3 * peerPut.value },
        { text: "GET ≥ 3× NATS Object Store", met: getRate >= 3 * peerGet.value },
        { text: "reads back identical", met: intact },
      ],
      notes: [],
    };
  },
};

async function measureObjectStore(context: RowContext): Promise<[put: Figure, get: Figure]> {
  await using stores = await startNatsStores();
  const body = randomBytes(PEER_OBJECT_BYTES);
  const name = (n: number) => `object-${n % 64}`;
  const puts = await measure(context, PEER_OBJECT_BYTES, (n) => stores.objects.putBlob({ name: name(n) }, body));
  const gets = await measure(context, PEER_OBJECT_BYTES, (n) => stores.objects.getBlob(name(n)));
  return [
    { label: "NATS Object Store R3, put 1 MiB", value: median(puts), unit: "MB/s", samples: puts },
    { label: "NATS Object Store R3, get 1 MiB", value: median(gets), unit: "MB/s", samples: gets },
  ];
}

/** MB/s of all clients together, one per sample. */
async function measure(context: RowContext, bytes: number, work: (n: number) => Promise<unknown>): Promise<number[]> {
  const rates: number[] = [];
  for (let sample = 0; sample < context.samples; sample++) {
    const { perSecond } = await keepInFlight(CLIENTS, context.seconds, work);
    rates.push((perSecond * bytes) / 1e6);
  }
  return rates;
}

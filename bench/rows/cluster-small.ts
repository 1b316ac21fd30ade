/** Small objects on a whole cluster through nginx, beside etcd and the NATS Object Store on the same two cores. */
import { startBenchCluster } from "../cluster-process.ts";
import { keepInFlight } from "../in-flight.ts";
import type { LoadRequest, LoadResult } from "../load.ts";
import { etcdGet, etcdPut, startEtcd } from "../peers/etcd.ts";
import { startNatsStores, type NatsStores } from "../peers/nats-stores.ts";
import type { Figure, Row, RowContext, RowResult } from "../row.ts";
import { median, sum } from "../statistics.ts";
import { putObject } from "../store-client.ts";
import { runWrk } from "../wrk.ts";
import { KIB } from "../../src/lib/bytes.ts";

const CONNECTIONS = 64;
const BODY = Buffer.alloc(KIB, "k");
/** More than a connection gets to send while the clock runs, so that no key comes twice. */
const KEYS_PER_CONNECTION = 1_500;
const STORED_KEYS = 512;
/** A dozen processes share the work, so each takes a while to have its code compiled. */
const WARM_UP_SECONDS = 10;

export const clusterPutSmall: Row = {
  name: "cluster-put-1k",
  title: "cluster: PUT 1 KiB ×3 durable through nginx, 64 connections",
  runtimes: ["node"],
  async run(context) {
    const peer = await measureObjectStore(context, "put");
    const store = await measureCluster(context, putsOf("replication"));
    return judge(store, [{ peer, atLeast: 3 }], 2_000);
  },
};

export const clusterPutInline: Row = {
  name: "cluster-put-inline",
  title: "cluster: PUT 1 KiB inline through nginx, 64 connections",
  runtimes: ["node"],
  async run(context) {
    const peer = await measureEtcd(context, "put");
    const store = await measureCluster(context, putsOf("inline"));
    return judge(store, [{ peer, atLeast: 1 }], 3_500);
  },
};

export const clusterGetSmall: Row = {
  name: "cluster-get-1k",
  title: "cluster: GET 1 KiB through nginx, 64 connections",
  runtimes: ["node"],
  async run(context) {
    const etcd = await measureEtcd(context, "get");
    const objectStore = await measureObjectStore(context, "get");
    const store = await measureCluster(context, getsOf("replication"));
    const peers = [
      { peer: etcd, atLeast: 1 },
      { peer: objectStore, atLeast: 8 },
    ];
    return judge(store, peers, 4_000);
  },
};

export const clusterGetInline: Row = {
  name: "cluster-get-inline",
  title: "cluster: GET 1 KiB that is stored inline, through nginx, 64 connections",
  runtimes: ["node"],
  async run(context) {
    const peer = await measureEtcd(context, "get");
    const store = await measureCluster(context, getsOf("inline"));
    return judge(store, [{ peer, atLeast: 1 }], 4_000);
  },
};

type Work = {
  readonly prepare: (url: string) => Promise<void>;
  readonly requestsOf: (connection: number) => readonly LoadRequest[];
};

function putsOf(strategy: string): Work {
  let run = 0;
  return {
    prepare: async () => {},
    requestsOf: (connection) => {
      if (connection === 0) run += 1;
      return Array.from({ length: KEYS_PER_CONNECTION }, (_, index) => ({
        method: "PUT",
        path: `/objects/${strategy}/${run}/${connection}/${index}?strategy=${strategy}`,
        body: BODY,
      }));
    },
  };
}

function getsOf(strategy: string): Work {
  return {
    prepare: async (url) => {
      for (let key = 0; key < STORED_KEYS; key++) {
        await putObject(url, `/objects/get/${key}?strategy=${strategy}`, BODY, "application/octet-stream");
      }
    },
    requestsOf: (connection) =>
      Array.from({ length: STORED_KEYS / 8 }, (_, index) => ({
        method: "GET",
        path: `/objects/get/${(connection * 8 + index) % STORED_KEYS}`,
      })),
  };
}

async function measureCluster(context: RowContext, work: Work): Promise<LoadResult[]> {
  await using cluster = await startBenchCluster(context.directory);
  await work.prepare(cluster.url);
  return await measureHttp(context, cluster.url, work.requestsOf);
}

async function measureHttp(
  context: RowContext,
  url: string,
  requestsOf: (connection: number) => readonly LoadRequest[],
): Promise<LoadResult[]> {
  const load = (seconds: number) => runWrk(url, { connections: CONNECTIONS, seconds, requestsOf });
  await load(context.quick ? 1 : WARM_UP_SECONDS);
  const samples: LoadResult[] = [];
  for (let sample = 0; sample < context.samples; sample++) samples.push(await load(context.seconds));
  return samples;
}

/** Peers run before the cluster starts, alone on the machine like the cluster after them. */
async function measureEtcd(context: RowContext, kind: "put" | "get"): Promise<Figure> {
  await using etcd = await startEtcd(context.directory);
  const [url] = etcd.urls as [string];
  let run = 0;
  const puts = (connection: number) => {
    if (connection === 0) run += 1;
    return Array.from({ length: KEYS_PER_CONNECTION }, (_, index) => etcdPut(`${run}/${connection}/${index}`, BODY));
  };
  const gets = (connection: number) =>
    Array.from({ length: STORED_KEYS / 8 }, (_, index) => etcdGet(`1/${connection}/${index}`));
  if (kind === "get") await runWrk(url, { connections: CONNECTIONS, seconds: 2, requestsOf: puts });
  const samples = await measureHttp(context, url, kind === "put" ? puts : gets);
  const rates = samples.map((sample) => sample.perSecond);
  return { label: `etcd, three nodes, ${kind}`, value: median(rates), unit: "/s", samples: rates };
}

async function measureObjectStore(context: RowContext, kind: "put" | "get"): Promise<Figure> {
  await using stores = await startNatsStores();
  const put = (n: number) => stores.objects.putBlob({ name: `object-${n}` }, BODY);
  for (let n = 0; n < STORED_KEYS; n++) await put(n);
  if (kind === "get") return await measureObjectStoreGet(stores, context);
  await keepInFlight(CONNECTIONS, 1, put);
  const rates: number[] = [];
  for (let sample = 0; sample < context.samples; sample++) {
    rates.push((await keepInFlight(CONNECTIONS, context.seconds, put)).perSecond);
  }
  return {
    label: `NATS Object Store R3, put, ${CONNECTIONS} in flight`,
    value: median(rates),
    unit: "/s",
    samples: rates,
  };
}

/**
 * Each read makes a consumer, which stays for a while: after about a thousand the servers refuse more, and with several
 * at once much sooner. So one after the other, and not for long.
 */
async function measureObjectStoreGet(stores: NatsStores, context: RowContext): Promise<Figure> {
  const get = (n: number) => stores.objects.getBlob(`object-${n % STORED_KEYS}`);
  const { perSecond, failed } = await keepInFlight(1, Math.min(context.seconds, 3), get);
  const label = `NATS Object Store R3, get, one at a time${failed === 0 ? "" : ` (${failed} failed)`}`;
  return { label, value: perSecond, unit: "/s", samples: [perSecond] };
}

type Comparison = { readonly peer: Figure; readonly atLeast: number };

function judge(samples: readonly LoadResult[], comparisons: readonly Comparison[], perSecondMin: number): RowResult {
  const rates = samples.map((sample) => sample.perSecond);
  const perSecond = median(rates);
  const failed = sum(samples.map((sample) => sample.failed));
  return {
    measured: [
      { label: "store", value: perSecond, unit: "/s", samples: rates },
      { label: "p50", value: median(samples.map((sample) => sample.p50Ms)), unit: "ms" },
      { label: "p99", value: median(samples.map((sample) => sample.p99Ms)), unit: "ms" },
      ...comparisons.map(({ peer }): Figure => ({
        label: `of ${peer.label}`,
        value: perSecond / peer.value,
        unit: "×",
      })),
    ],
    yardsticks: comparisons.map(({ peer }) => peer),
    aims: [
      { text: `≥ ${perSecondMin}/s`, met: perSecond >= perSecondMin },
      ...comparisons.map(({ peer, atLeast }) => ({
        text: `≥ ${atLeast}× ${peer.label}`,
        met: perSecond >= atLeast * peer.value,
      })),
      { text: "every request succeeds", met: failed === 0 },
    ],
    notes: failed === 0 ? [] : [`${failed} requests failed`],
  };
}

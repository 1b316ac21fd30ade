/** What a nats-server of ours is told, whoever starts it. */
import type { NatsPorts } from "./ports.ts";

export type NatsServerConfig = {
  readonly name: string;
  readonly clusterName: string;
  readonly host: string;
  readonly ports: NatsPorts;
  readonly storeDir: string;
  /** Of all servers of the cluster, this one's too; none for a server alone. Without user and password. */
  readonly routes: readonly { readonly host: string; readonly port: number }[];
  /** Null: anyone who reaches the port is let in. */
  readonly login: { readonly user: string; readonly password: string } | null;
  /** `always`, or what a test wants to be refused. */
  readonly syncInterval: string;
  /** Such as `8GB`; null: three quarters of the free disk. */
  readonly fileStoreMax: string | null;
};

/**
 * A route on which nothing arrives is given up within seconds and made anew. Else it comes back when TCP repeats what it
 * sent, whose pauses double: after a partition the servers would stay apart for as long again as it lasted.
 */
const ROUTE_PING_INTERVAL = "2s";
const ROUTE_PINGS_UNANSWERED_MAX = 2;

/**
 * A whole nats-server.conf. `sync_interval: always` is what makes an acknowledged message one that survives a power cut:
 * with the default, all servers may forget the last two minutes.
 */
export function natsServerConfig(server: NatsServerConfig): string {
  const { name, host, ports, storeDir, routes, login, syncInterval, fileStoreMax } = server;
  const authorization =
    login === null ? "" : `authorization { user: ${quoted(login.user)}, password: ${quoted(login.password)} }`;
  const userInfo = login === null ? "" : `${encodeURIComponent(login.user)}:${encodeURIComponent(login.password)}@`;
  const lines = [
    `server_name: ${quoted(name)}`,
    `listen: ${quoted(`${host}:${ports.client}`)}`,
    `http: ${quoted(`${host}:${ports.monitor}`)}`,
    "jetstream {",
    `  store_dir: ${quoted(storeDir)}`,
    `  sync_interval: ${syncInterval}`,
    "  max_memory_store: 256MB",
    ...(fileStoreMax === null ? [] : [`  max_file_store: ${fileStoreMax}`]),
    "}",
    authorization,
  ];
  if (routes.length > 1) {
    lines.push(
      "cluster {",
      `  ping_interval: ${quoted(ROUTE_PING_INTERVAL)}`,
      `  ping_max: ${ROUTE_PINGS_UNANSWERED_MAX}`,
      `  name: ${quoted(server.clusterName)}`,
      `  listen: ${quoted(`${host}:${ports.route}`)}`,
      ...(login === null ? [] : [`  ${authorization}`]),
      "  routes: [",
      ...routes.map((route) => `    ${quoted(`nats-route://${userInfo}${route.host}:${route.port}`)}`),
      "  ]",
      "}",
    );
  }
  return `${lines.filter((line) => line !== "").join("\n")}\n`;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

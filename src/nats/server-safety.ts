/** Decides from what nats-servers tell of themselves whether a cluster can trust them. Pure. */

/** One server, as its monitoring tells. */
export type ServerFacts = {
  readonly name: string;
  readonly version: string;
  /** Whether it syncs before it acknowledges; null for a server without JetStream. */
  readonly syncAlways: boolean | null;
  /** Whether JetStream's meta group has a leader, so that streams can be made. */
  readonly hasLeader: boolean;
  /** Servers that JetStream counts, those that are off too. */
  readonly clusterSize: number;
  /** Names of the servers it is connected to. */
  readonly peers: readonly string[];
};

export type ServersSeen = {
  readonly servers: readonly ServerFacts[];
  /** Monitoring that did not answer, and why. */
  readonly silent: readonly { readonly url: string; readonly reason: string }[];
  /** The one this process is connected to. */
  readonly connected: { readonly name: string; readonly version: string };
  /** Streams of this cluster with `persist_mode: async`; null when nobody could tell. */
  readonly asyncStreams: readonly string[] | null;
};

/**
 * unsafe: works, and may lose acknowledged writes. unusable: does not work, whatever the operator accepts.
 * `mayPass`: servers that are just starting give it too.
 */
export type ServerProblem = { readonly kind: "unsafe" | "unusable"; readonly mayPass: boolean; readonly text: string };

/** Below it, servers have lost acknowledged messages in spite of `sync_interval: always`. */
export const SERVER_VERSION_MIN = "2.12.4";

export function findServerProblems(seen: ServersSeen, streamReplicas: number): ServerProblem[] {
  const storing = seen.servers.filter(({ syncAlways }) => syncAlways !== null);
  return [
    ...findOldVersions(seen),
    ...findUnsynced(storing),
    ...findUnverified(seen),
    ...findUnusable(seen, storing, streamReplicas),
    ...findAsyncStreams(seen),
  ];
}

function findOldVersions({ servers, connected }: ServersSeen): ServerProblem[] {
  const versions = new Map([connected, ...servers].map(({ name, version }) => [name, version]));
  return [...versions]
    .filter(([, version]) => !isNewEnough(version))
    .map(([name, version]) =>
      unsafe(
        `NATS server ${name} has version ${version}, which may lose what it acknowledged: install ${SERVER_VERSION_MIN} or newer`,
      ),
    );
}

function findUnsynced(storing: readonly ServerFacts[]): ServerProblem[] {
  return storing
    .filter(({ syncAlways }) => syncAlways === false)
    .map(({ name }) =>
      unsafe(
        `NATS server ${name} acknowledges before it syncs, so a power cut loses what it acknowledged: ` +
          "set `sync_interval: always` in the `jetstream` block of its configuration and restart it",
      ),
    );
}

/** A server that is off is no danger now and is looked at by whoever starts after it; one that is on must be seen. */
function findUnverified({ servers, silent, connected }: ServersSeen): ServerProblem[] {
  const verified = new Set(servers.map(({ name }) => name));
  const running = new Set([connected.name, ...servers.flatMap(({ peers }) => peers)]);
  const unverified = [...running].filter((name) => !verified.has(name));
  if (unverified.length === 0) return [];
  const met = silent.map(({ url, reason }) => `${url}: ${reason}`).join("; ");
  const text =
    `Cannot tell whether NATS server ${unverified.join(", ")} syncs before it acknowledges, because its monitoring was not reached` +
    `${met === "" ? "" : ` (${met})`}: set \`http\` in its configuration, and nats.monitorUrls to the addresses of all servers`;
  return [{ kind: "unsafe", mayPass: true, text }];
}

function findUnusable(
  { servers }: ServersSeen,
  storing: readonly ServerFacts[],
  streamReplicas: number,
): ServerProblem[] {
  if (servers.length === 0) return [];
  if (storing.length === 0) {
    const names = servers.map(({ name }) => name).join(", ");
    return [unusable(`JetStream is off on NATS server ${names}: add a \`jetstream\` block to its configuration`)];
  }
  const clusterSize = Math.max(...storing.map((server) => server.clusterSize));
  if (clusterSize < streamReplicas) {
    const servers = clusterSize === 1 ? "There is 1 NATS server" : `There are ${clusterSize} NATS servers`;
    return [
      unusable(
        `${servers} with JetStream, too few for ${streamReplicas} copies of every stream: ` +
          `run ${streamReplicas} of them as a cluster, or set cluster.streamReplicas lower`,
      ),
    ];
  }
  if (storing.some(({ hasLeader }) => hasLeader)) return [];
  return [unusable("The NATS servers have elected no leader for JetStream: start more than half of them")];
}

function findAsyncStreams({ asyncStreams }: ServersSeen): ServerProblem[] {
  return (asyncStreams ?? []).map((name) =>
    unsafe(`Stream ${name} acknowledges before it stores (\`persist_mode: async\`): make it anew without that`),
  );
}

function isNewEnough(version: string): boolean {
  const found = numbersOf(version);
  const wanted = numbersOf(SERVER_VERSION_MIN);
  if (found === null || wanted === null) return false;
  const differing = found.findIndex((number, index) => number !== wanted[index]);
  return differing === -1 || (found[differing] ?? 0) > (wanted[differing] ?? 0);
}

/** Null for a text that is no version. What stands behind the three numbers, as in `2.14.0-RC.1`, is passed over. */
function numbersOf(version: string): readonly number[] | null {
  const match = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version);
  return match === null ? null : match.slice(1).map(Number);
}

function unsafe(text: string): ServerProblem {
  return { kind: "unsafe", mayPass: false, text };
}

/** Servers find each other and elect a leader in the first seconds. */
function unusable(text: string): ServerProblem {
  return { kind: "unusable", mayPass: true, text };
}

/** How one sees that a process is ready for work. */
import { connect } from "node:net";

export type Readiness =
  /** It writes a line that begins so. */
  | { readonly kind: "line"; readonly start: string }
  /** This address answers 200. */
  | { readonly kind: "http"; readonly url: string }
  | { readonly kind: "port"; readonly host: string; readonly port: number };

const PROBE_MS_MAX = 2_000;

/** `written`: what it has written since it was started. */
export async function isReady(readiness: Readiness, written: string): Promise<boolean> {
  switch (readiness.kind) {
    case "line":
      return `\n${written}`.includes(`\n${readiness.start}`);
    case "http":
      return (await readJson(readiness.url)) !== null;
    case "port":
      return await takesConnections(readiness.host, readiness.port);
  }
}

/** Whether every one of the nats-servers knows the one that places streams: before that none can be made. */
export async function haveMetaLeader(monitorUrls: readonly string[]): Promise<boolean> {
  const answers = await Promise.all(monitorUrls.map((url) => readJson(`${url}/jsz`)));
  return answers.every((answer) => {
    const meta = (answer as { meta_cluster?: { leader?: string; cluster_size?: number } } | null)?.meta_cluster;
    if (monitorUrls.length === 1) return answer !== null;
    return (meta?.leader ?? "") !== "" && meta?.cluster_size === monitorUrls.length;
  });
}

/** Null when there is no answer, or none that is 200. */
export async function readJson(url: string): Promise<unknown> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS_MAX) });
    return response.ok ? ((await response.json()) as unknown) : null;
  } catch {
    return null;
  }
}

function takesConnections(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PROBE_MS_MAX });
    const answer = (taken: boolean) => {
      socket.destroy();
      resolve(taken);
    };
    socket.once("connect", () => answer(true));
    socket.once("timeout", () => answer(false));
    socket.once("error", () => answer(false));
  });
}

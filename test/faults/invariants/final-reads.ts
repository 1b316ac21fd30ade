/** What is there in the end, read through every gateway: I1 to I5 of a fault run, as far as a look can tell. */
import { StoreClient } from "../../support/black-box/client.ts";
import type { HistoryRecorder } from "../history/recorder.ts";
import { askGateway, noteOf } from "../workload/gateway-request.ts";
import type { KeySpace } from "../workload/keys.ts";
import { ObjectReader } from "../workload/object-reader.ts";
import type { Gateway } from "../workload/client.ts";

const PATIENCE_MS = 60_000;
const READERS = 4;

/** Version and value by key, "absent" where there is none. */
export type Snapshot = ReadonlyMap<string, string>;

/** Reads every key through every gateway, into the history too. Answers what is there, and what is wrong with it. */
export async function readEverything(
  recorder: HistoryRecorder,
  keys: KeySpace,
  gateways: readonly Gateway[],
): Promise<{ readonly found: Snapshot; readonly problems: string[] }> {
  const problems: string[] = [];
  const snapshots = await Promise.all(gateways.map((gateway) => readThrough(gateway, { recorder, keys, problems })));
  const [found, ...others] = snapshots as [Snapshot, ...Snapshot[]];
  for (const [index, other] of others.entries()) {
    const name = (gateways[index + 1] as Gateway).name;
    for (const [key, state] of found) {
      if (other.get(key) === state) continue;
      problems.push(`I3: ${key} is ${state} through ${gateways[0]?.name} and ${other.get(key)} through ${name}`);
    }
  }
  return { found, problems };
}

type Reading = { readonly recorder: HistoryRecorder; readonly keys: KeySpace; readonly problems: string[] };

async function readThrough(gateway: Gateway, { recorder, keys, problems }: Reading): Promise<Snapshot> {
  using client = new StoreClient(gateway.url);
  const reader = new ObjectReader(keys, recorder);
  const found = new Map<string, string>();
  const left = [...keys.keys];
  const readKeys = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      const [key, kind] = next;
      const target = `/objects/${key}`;
      const request = { client: "end", gateway: gateway.name, request: `GET ${target}`, isWrite: false };
      const answered = await recorder.record(request, async () => {
        const reply = await askGateway(client, PATIENCE_MS, "GET", target);
        return "lost" in reply ? { ...reply.lost, outcome: "failed" } : reader.whole(key, kind, reply.answer);
      });
      const { outcome, status, version, note = "", meanings } = answered;
      if (outcome !== "ok") problems.push(`I1: ${key} cannot be read through ${gateway.name}: ${status} ${note}`);
      const action = meanings[0]?.action;
      const value = action?.kind === "read" ? action.value : null;
      found.set(key, outcome !== "ok" ? "unreadable" : value === null ? "absent" : `${version} ${value}`);
    }
  };
  await Promise.all(Array.from({ length: READERS }, readKeys));
  problems.push(...(await compareListing(gateway, client, found)));
  return found;
}

/** I5: a listing has what is there, and in the same version. */
async function compareListing({ name }: Gateway, client: StoreClient, found: Snapshot): Promise<string[]> {
  const listed = new Map<string, string>();
  for (let after = ""; ;) {
    const reply = await askGateway(
      client,
      PATIENCE_MS,
      "GET",
      `/objects?limit=1000&after=${encodeURIComponent(after)}`,
    );
    if ("lost" in reply) return [`I5: ${name} does not list: ${reply.lost.note}`];
    if (reply.answer.status !== 200) return [`I5: ${name} does not list: ${noteOf(reply.answer)}`];
    const page = JSON.parse(reply.answer.body.toString()) as {
      objects: { key: string; version: string }[];
      next: string | null;
    };
    for (const { key, version } of page.objects) listed.set(key, version);
    if (page.next === null) break;
    after = page.next;
  }
  const problems: string[] = [];
  for (const [key, state] of found) {
    const version = state === "absent" ? undefined : state.split(" ", 1)[0];
    if (state === "unreadable" || listed.get(key) === version) continue;
    problems.push(`I5: ${key} is listed by ${name} as ${listed.get(key) ?? "absent"}, and is ${state}`);
  }
  return problems;
}

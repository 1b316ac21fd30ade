/** The few requests around a measurement, where speed does not matter. */
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { sum } from "./statistics.ts";

export type Receipt = { readonly nodeBytesWritten: number; readonly version: string };
type BlobSetInfo = {
  readonly redundancy: { readonly k: number };
  readonly blobs: readonly { readonly node: string }[];
};
export type CacheCounts = { readonly hits: number; readonly misses: number };
export type StoreUsage = { readonly liveBytes: number; readonly fileBytes: number };

/** Stores one body. @throws {Error} the store did not take it */
export async function putObject(url: string, path: string, body: Buffer, type: string): Promise<Receipt> {
  return (await send(url, path, {
    method: "PUT",
    body: new Uint8Array(body),
    headers: { "content-type": type },
  })) as Receipt;
}

export async function patchObject(url: string, path: string, patch: Buffer): Promise<Receipt> {
  const headers = { "content-type": "application/merge-patch+json" };
  return (await send(url, path, { method: "PATCH", body: new Uint8Array(patch), headers })) as Receipt;
}

export async function deleteObject(url: string, path: string): Promise<void> {
  await send(url, path, { method: "DELETE" });
}

export async function getBytes(url: string, path: string): Promise<Buffer> {
  const response = await fetch(new URL(path, url));
  const bytes = Buffer.from(await response.arrayBuffer());
  if (!response.ok) throw new Error(`GET ${path} was answered ${response.status}: ${bytes.toString()}`);
  return bytes;
}

/** Bytes on all nodes together, as the store itself counts them. */
export async function readUsage(url: string): Promise<StoreUsage> {
  const stats = (await send(url, "/cluster/stats", {})) as { nodes: readonly { usage: StoreUsage }[] };
  return {
    liveBytes: sum(stats.nodes.map(({ usage }) => usage.liveBytes)),
    fileBytes: sum(stats.nodes.map(({ usage }) => usage.fileBytes)),
  };
}

/** Payload bytes on one node. */
export async function readNodeBytes(url: string, name: string): Promise<number> {
  const stats = (await send(url, "/cluster/stats", {})) as { nodes: readonly { name: string; usage: StoreUsage }[] };
  return stats.nodes.find((node) => node.name === name)?.usage.liveBytes ?? 0;
}

/** What the gateway has counted of its cache since it began. */
export async function readCache(url: string): Promise<CacheCounts> {
  return ((await send(url, "/metrics/summary", {})) as { cache: CacheCounts }).cache;
}

/** The nodes that hold the data shards of an erasure-coded object, first shard first. */
export async function readDataNodes(url: string, path: string): Promise<string[]> {
  const text = (await getBytes(url, `${path}?info`)).toString();
  const { placement } = JSON.parse(text) as { placement: { blobSets: readonly BlobSetInfo[] } };
  const [body] = placement.blobSets;
  if (!body) throw new Error(`${path} has no blobs: it is not erasure coded`);
  return body.blobs.slice(0, body.redundancy.k).map((blob) => blob.node);
}

/** Bytes that the files below `directory` take on disk. */
export async function diskBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    files.map(async (file) => (await stat(join(file.parentPath, file.name))).blocks * 512),
  );
  return sum(sizes);
}

/** Waits until what was written so far is on the disk, so that it does not slow down what is measured next. */
export async function settleDisk(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  await handle.sync();
  await handle.close();
}

async function send(url: string, path: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(new URL(path, url), init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${init.method ?? "GET"} ${path} was answered ${response.status}: ${text}`);
  return text === "" ? null : JSON.parse(text);
}

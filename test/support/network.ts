/**
 * Sites with a network of their own each, joined by a router that loses packets on request. This process has its own
 * line to the router, which loses nothing: it reaches every site, however they are cut off from each other.
 *
 * Every network namespace is held open by a shell that waits for the end of a pipe from this process, and has no name
 * that could outlive it. So all of it goes when this process ends, however it ends, once nothing runs at the sites.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type TestNetwork = AsyncDisposable & {
  /** The address of a site, which all its processes share. */
  addressOf(site: string): string;
  /** Put before a command, runs it at a site. */
  prefixOf(site: string): readonly string[];
  /** Nothing reaches the site or leaves it. Packets are dropped on their way, and nobody is told. */
  cutOff(site: string): Promise<void>;
  /** The site hears all others, and nothing that it sends arrives. */
  mute(site: string): Promise<void>;
  /** The others hear the site, and nothing that they send to it arrives. */
  deafen(site: string): Promise<void>;
  /** Everything arrives again. */
  heal(): Promise<void>;
  /** Resolves when nothing is left of it. What runs at the sites must have ended before. */
  [Symbol.asyncDispose](): Promise<void>;
};

type Namespace = { readonly pid: number; readonly enter: readonly string[]; close(): Promise<void> };

/** 198.18.0.0/15 is set aside for tests of networks; each network here takes 256 of its addresses. */
const NETWORKS_MAX = 512;
/** The router has line 0 to this process and one to each site, with four addresses each. */
const SITES_MAX = 62;
const GONE_MS_MAX = 5_000;
const POLL_MS = 20;

/** Needs root on Linux. Answers the reason in words where it is not possible. */
export async function startNetwork(sites: readonly string[]): Promise<TestNetwork | string> {
  if (process.platform !== "linux") return "only Linux has network namespaces";
  if (sites.length > SITES_MAX) throw new Error(`A test network has at most ${SITES_MAX} sites`);
  const namespaces: Namespace[] = [];
  const end = async () => void (await Promise.all(namespaces.map((each) => each.close())));
  try {
    for (let count = 0; count <= sites.length; count += 1) namespaces.push(await openNamespace());
    const [router, ...ofSites] = namespaces as [Namespace, ...Namespace[]];
    const network = await joinHost(router);
    for (const [index, site] of ofSites.entries()) await joinSite(router, site, { network, line: index + 1 });
    const forward = `echo 1 > /proc/sys/net/ipv4/ip_forward`;
    await run([...router.enter, "sh", "-c", forward]);
    const made = networkOf(sites, network, { router, sites: ofSites });
    await made.heal();
    return { ...made, [Symbol.asyncDispose]: () => end().then(() => untilGone(network)) };
  } catch (cause) {
    await end();
    return `network namespaces cannot be made, which needs root, iproute2 and iptables: ${(cause as Error).message}`;
  }
}

function networkOf(
  sites: readonly string[],
  network: number,
  namespaces: { readonly router: Namespace; readonly sites: readonly Namespace[] },
): Omit<TestNetwork, typeof Symbol.asyncDispose> {
  const indexOf = (site: string) => {
    const index = sites.indexOf(site);
    if (index === -1) throw new Error(`There is no site ${site}, only ${sites.join(", ")}`);
    return index;
  };
  const addressOf = (site: string) => addressesOf(network, indexOf(site) + 1).far;
  const others = (site: string) => sites.filter((other) => other !== site);
  const from = (site: string) => others(site).map((other) => ({ from: site, to: other }));
  const to = (site: string) => others(site).map((other) => ({ from: other, to: site }));
  /** These packets from now on, and no others. All rules are changed at once. */
  const drop = async (losses: readonly { from: string; to: string }[]) => {
    const rules = losses.map((loss) => `-A FORWARD -s ${addressOf(loss.from)} -d ${addressOf(loss.to)} -j DROP`);
    const table = ["*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", ...rules, "COMMIT", ""];
    await run([...namespaces.router.enter, "iptables-restore"], table.join("\n"));
  };
  return {
    addressOf,
    prefixOf: (site) => (namespaces.sites[indexOf(site)] as Namespace).enter,
    cutOff: (site) => drop([...from(site), ...to(site)]),
    mute: (site) => drop(from(site)),
    deafen: (site) => drop(to(site)),
    heal: () => drop([]),
  };
}

async function openNamespace(): Promise<Namespace> {
  // A group of its own: a Ctrl-C in the terminal ends it no sooner than what runs inside.
  const holder = spawn("unshare", ["--net", "sh", "-c", "echo open; read -r _"], { detached: true });
  const errors: Buffer[] = [];
  holder.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
  const ended = new Promise<void>((resolve) => holder.once("close", () => resolve()).once("error", () => resolve()));
  holder.stdin.on("error", () => {});
  const isOpen = await Promise.race([once(holder.stdout, "data").then(() => true), ended.then(() => false)]);
  if (!isOpen) throw new Error(Buffer.concat(errors).toString().trim() || "unshare cannot be run");
  const pid = (holder as ChildProcess).pid as number;
  const close = async () => {
    holder.stdin.end();
    await ended;
  };
  return { pid, enter: ["nsenter", `--net=/proc/${pid}/ns/net`, "--"], close };
}

/** Lays the line from this process to the router. The name of its end is what makes a network's number its own. */
async function joinHost(router: Namespace): Promise<number> {
  for (let tries = 0; ; tries += 1) {
    const network = (process.pid + tries) % NETWORKS_MAX;
    const name = hostEnd(network);
    try {
      await run(["ip", "link", "add", name, "type", "veth", "peer", "name", "line0", "netns", String(router.pid)]);
    } catch (cause) {
      if (tries < NETWORKS_MAX && String(cause).includes("File exists")) continue;
      throw cause;
    }
    const { near, far } = addressesOf(network, 0);
    await run(["ip", "-batch", "-"], addressLines(name, far, `${subnetOf(network)}.0/24`, near));
    await run([...router.enter, "ip", "-batch", "-"], ["link set lo up", ...upLines("line0", near)].join("\n"));
    return network;
  }
}

/** Lays the line from the router to a site. */
async function joinSite(router: Namespace, site: Namespace, at: { network: number; line: number }): Promise<void> {
  const { near, far } = addressesOf(at.network, at.line);
  const name = `line${at.line}`;
  const lay = `link add ${name} type veth peer name uplink netns ${site.pid}`;
  await run([...router.enter, "ip", "-batch", "-"], [lay, ...upLines(name, near)].join("\n"));
  await run([...site.enter, "ip", "-batch", "-"], `link set lo up\n${addressLines("uplink", far, "default", near)}`);
}

function upLines(name: string, address: string): string[] {
  return [`address add ${address}/30 dev ${name}`, `link set ${name} up`];
}

function addressLines(name: string, address: string, target: string, router: string): string {
  return [...upLines(name, address), `route add ${target} via ${router}`].join("\n");
}

function hostEnd(network: number): string {
  return `kintsugi-t${network}`;
}

function subnetOf(network: number): string {
  return `198.${18 + Math.floor(network / 256)}.${network % 256}`;
}

/** Of both ends of a line: the router's and the other. */
function addressesOf(network: number, line: number): { readonly near: string; readonly far: string } {
  return { near: `${subnetOf(network)}.${4 * line + 1}`, far: `${subnetOf(network)}.${4 * line + 2}` };
}

/** The kernel takes namespaces apart a little after their last process has ended. */
async function untilGone(network: number): Promise<void> {
  const overdueAt = performance.now() + GONE_MS_MAX;
  while (existsSync(`/sys/class/net/${hostEnd(network)}`)) {
    if (performance.now() > overdueAt) {
      throw new Error(
        `${hostEnd(network)} is still there after ${GONE_MS_MAX} ms: does something still run at a site?`,
      );
    }
    await sleep(POLL_MS);
  }
}

/** @throws {Error} with what the command complained of */
async function run([command, ...args]: readonly string[], input = ""): Promise<void> {
  const child = spawn(command as string, args, { stdio: ["pipe", "ignore", "pipe"] });
  const errors: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${Buffer.concat(errors).toString().trim()}`);
}

/**
 * Sites with a network of their own each, joined by a router that loses packets on request. The test process has its own
 * line to the router, which loses nothing: it reaches all sites, however they are cut off from each other.
 *
 * Every network namespace is held open by a shell that waits for the end of a pipe from this process, and has no name
 * that would outlive it. So it all goes when this process ends, however it ends, once nothing runs in the sites any more.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** Packets from one site to another are dropped on the way; nobody is told. */
export type Loss = { readonly from: string; readonly to: string };

export type TestNetwork = AsyncDisposable & {
  /** The address of a site, for all its processes. */
  addressOf(site: string): string;
  /** Put before a command, runs it at a site. */
  prefixOf(site: string): readonly string[];
  /** Loses these packets, all of them, and from now on no others; `heal` is losing none. */
  lose(losses: readonly Loss[]): Promise<void>;
  heal(): Promise<void>;
  /** Resolves when nothing is left of it. Whatever runs at a site must have ended before. */
  [Symbol.asyncDispose](): Promise<void>;
};

/** Both directions between a site and all others. */
export function allOf(network: { readonly sites: readonly string[] }, site: string): Loss[] {
  return [...fromSite(network, site), ...toSite(network, site)];
}

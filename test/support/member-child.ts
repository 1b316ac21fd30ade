/**
 * A process that joins a cluster, says what it sees, a line each, and stays: `joined`, the states of all nodes whenever
 * they change, `lost CODE`; or `refused CODE` and the end. Usage: member-child.ts JSON, with what `MemberChild` says.
 */
import { systemClock } from "../../src/lib/clock.ts";
import { isStoreError } from "../../src/domain/errors.ts";
import type { NodeInfo, ProcessRole } from "../../src/domain/node-info.ts";
import type { MembershipOptions } from "../../src/membership/nats-membership.ts";
import { joinNatsMembership } from "../../src/membership/nats-membership.ts";
import { memberSelf } from "./member-self.ts";
import type { TestServers } from "./test-link.ts";
import { openTestLink } from "./test-link.ts";

export type MemberChild = {
  readonly servers: TestServers;
  readonly clusterName: string;
  readonly role: ProcessRole;
  readonly name: string;
  readonly identity: string;
  readonly options: Partial<MembershipOptions>;
};

const { servers, clusterName, options, ...self } = JSON.parse(process.argv[2] as string) as MemberChild;
const say = (line: string) => process.stdout.write(`${line}\n`);

const link = await openTestLink(servers, { clusterName, clock: systemClock });
try {
  const membership = await joinNatsMembership(link, memberSelf(self), options);
  say("joined");
  const tell = (nodes: readonly NodeInfo[]) => say(nodes.map(({ name, state }) => `${name} ${state}`).join(" "));
  membership.watch(tell);
  void membership.lost.then(({ code }) => say(`lost ${code}`));
  process.on("SIGTERM", () => void membership.close().then(() => link.close()));
} catch (cause) {
  say(`refused ${isStoreError(cause) ? cause.code : String(cause)}`);
  await link.close();
}

/** The commands of `kintsugi heal` and `kintsugi node`, as far as the command line goes. */
import { Option, type Command } from "commander";
import type { JobKind } from "../domain/healing.ts";
import type { CliIo } from "./io.ts";
import type { OperatorOptions } from "./operator.ts";

type Raw = Readonly<Record<string, unknown>>;
type Parts = { readonly io: CliIo; readonly urlDefault: string; readonly finish: (exitCode: number) => void };

const JOBS: readonly (readonly [kind: JobKind, description: string])[] = [
  ["audit", "compare all records with what the nodes hold, now"],
  ["collect", "look for what is nobody's, and free what may go"],
  ["balance", "look whether nodes hold their share, and move what is off"],
  ["scrub", "have nodes verify everything that they hold"],
  ["compact", "have nodes give space back to the file system"],
];

export function addHeal(program: Command, parts: Parts): void {
  const { io, finish } = parts;
  const heal = program.command("heal").description("see and steer how the store mends itself");
  operatorCommand(heal, "status", "what is being mended, by whom, and how far it is", parts)
    .option("--watch", "again every second, until Ctrl-C")
    .action(async (raw: Raw) => {
      const { runHealStatus } = await import("./heal.ts");
      finish(await runHealStatus(io, { ...operatorOptions(raw), watch: raw["watch"] === true }));
    });
  for (const [kind, description] of JOBS) {
    operatorCommand(heal, kind, description, parts)
      .option("--node <name>", "only this node")
      .option("--wait", "until it has ended, with a progress bar")
      .action(async (raw: Raw) => {
        const node = typeof raw["node"] === "string" ? raw["node"] : null;
        const options = { ...operatorOptions(raw), node, wait: raw["wait"] === true };
        finish(await (await import("./heal.ts")).runHealJob(io, kind, options));
      });
  }
  operatorCommand(heal, "node <name>", "bring back everything that a node should hold, and verify all of it", parts)
    .option("--no-wait", "only ask for it")
    .action(async (node: string, raw: Raw) => {
      const options = { ...operatorOptions(raw), node, wait: raw["wait"] !== false };
      finish(await (await import("./heal.ts")).runHealJob(io, "recover_node", options));
    });
  for (const [name, description] of [
    ["pause", "stop a track everywhere until it is resumed"],
    ["resume", "let a track go on"],
  ] as const) {
    operatorCommand(heal, `${name} <track>`, description, parts).action(async (track: string, raw: Raw) =>
      finish(await (await import("./heal.ts")).runHealPause(io, track, name === "pause", operatorOptions(raw))),
    );
  }
  operatorCommand(heal, "throttle <track> <rate>", "bytes per second and process, or default", parts).action(
    async (track: string, rate: string, raw: Raw) =>
      finish(await (await import("./heal.ts")).runHealThrottle(io, track, rate, operatorOptions(raw))),
  );
}

/** Below the command that runs a node. */
export function addNodes(node: Command, parts: Parts): void {
  const { io, finish } = parts;
  operatorCommand(node, "list", "every node, its state and what it holds", parts).action(async (raw: Raw) =>
    finish(await (await import("./nodes.ts")).runNodeList(io, operatorOptions(raw))),
  );
  operatorCommand(node, "drain <name>", "move everything away from a node", parts)
    .option("--wait", "until nothing is left on it, with a progress bar")
    .action(async (name: string, raw: Raw) => {
      const options = { ...operatorOptions(raw), wait: raw["wait"] === true };
      finish(await (await import("./nodes.ts")).runNodeDrain(io, name, options));
    });
  operatorCommand(node, "undrain <name>", "let a node take new blobs again", parts).action(
    async (name: string, raw: Raw) =>
      finish(await (await import("./nodes.ts")).runNodeUndrain(io, name, operatorOptions(raw))),
  );
  operatorCommand(node, "remove <name>", "forget a node that is empty or gone for good", parts).action(
    async (name: string, raw: Raw) =>
      finish(await (await import("./nodes.ts")).runNodeRemove(io, name, operatorOptions(raw))),
  );
}

function operatorCommand(parent: Command, signature: string, description: string, { urlDefault }: Parts): Command {
  return parent
    .command(signature)
    .description(description)
    .addOption(new Option("--url <address>", "a gateway of the store").env("KINTSUGI_URL").default(urlDefault))
    .addOption(new Option("--json", "machine output: one JSON value per line"));
}

function operatorOptions(raw: Raw): OperatorOptions {
  return { url: raw["url"] as string, json: raw["json"] === true };
}

/**
 * The command line: what can be said, and which function does it. Each command's code is loaded when it is called, so
 * that a small one starts as fast as the runtime does.
 */
import { Command, CommanderError, Option } from "commander";
import type { ClientOptions } from "./command.ts";
import type { ConfigOptions } from "./config-commands.ts";
import { EXIT, describeFailure, usageError } from "./exit.ts";
import { OutputClosed, type CliIo } from "./io.ts";
import type { Maintenance } from "./maintenance.ts";
import { addHeal, addNodes } from "./operator-commands.ts";
import type { Role, RunStore } from "./serve.ts";

export const URL_DEFAULT = "http://127.0.0.1:8000";

/** Runs one command line, without program name. Resolves with the exit code; every failure is one line on stderr. */
export async function runCli(
  operands: readonly string[],
  io: CliIo,
  runStore: RunStore,
  maintenance: Maintenance,
): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = buildProgram(io, runStore, maintenance, (code) => (exitCode = code));
  try {
    await program.parseAsync(operands, { from: "user" });
    return exitCode;
  } catch (cause) {
    if (cause instanceof OutputClosed) return EXIT.ok;
    if (cause instanceof CommanderError) return cause.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const failure = describeFailure(cause);
    io.stderr.write(`${failure.line}\n`);
    return failure.exitCode;
  }
}

type Finish = (exitCode: number) => void;

/** Options as commander hands them over, before they become those of a command. */
type Raw = Readonly<Record<string, unknown>>;

function buildProgram(io: CliIo, runStore: RunStore, maintenance: Maintenance, finish: Finish): Command {
  const program = new Command("kintsugi")
    .description("An object store for device fleets. `kintsugi serve` starts one, the other commands talk to it.")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text.replace(/^error: /, "kintsugi: usage: ")),
    })
    .showHelpAfterError("Run `kintsugi --help` or `kintsugi help COMMAND` to see what there is.");
  addServe(program, io, runStore, finish);
  addTransfers(program, io, finish);
  addQueries(program, io, finish);
  addHeal(program, { io, finish, urlDefault: URL_DEFAULT });
  addMaintenance(program, io, maintenance, finish);
  addConfig(program, io, finish);
  return program;
}

function addServe(program: Command, io: CliIo, runStore: RunStore, finish: Finish): void {
  const roles: [command: string, role: Role, description: string][] = [
    ["serve", "all", "run a complete store in this process"],
    ["gateway", "gateway", "run a gateway of a cluster: REST and NATS in front, nodes behind"],
    ["node", "node", "run a storage node of a cluster; or see to the nodes there are"],
    ["healer", "healer", "run a healer of a cluster: one of them leads and mends what breaks"],
  ];
  for (const [command, role, description] of roles) {
    const added = withConfigOptions(program.command(command).description(description)).action(async (raw: Raw) =>
      finish(await (await import("./serve.ts")).runServe(io, role, configOptions(raw), runStore)),
    );
    if (role === "node") addNodes(added, { io, finish, urlDefault: URL_DEFAULT });
  }
}

function addTransfers(program: Command, io: CliIo, finish: Finish): void {
  clientCommand(program, "put <operand...>", "store files: put FILE [KEY], put FILE... PREFIX/, put - KEY")
    .usage("[options] FILE... [KEY]")
    .option("--key <key>", "the KEY, where the last operand could also be a file")
    .option("--strategy <name>", "inline, replication, ec, field_hybrid or auto")
    .option("--consistency <level>", "one, quorum or all")
    .option("--content-type <type>", "media type (default: by extension)")
    .option("--meta <name=value>", "user metadata; may be given more than once", append, [])
    .option("--if-match <etag>", "only where the object still has this entity tag")
    .option("--if-none-match [etag]", "only where the key has no object, or not this entity tag")
    .action(async (operands: string[], raw: Raw) => {
      const ifNoneMatch = raw["ifNoneMatch"] === true ? "*" : textOf(raw, "ifNoneMatch");
      const { runPut } = await import("./put.ts");
      finish(
        await runPut(io, operands, {
          ...clientOptions(raw),
          key: textOf(raw, "key"),
          strategy: textOf(raw, "strategy"),
          consistency: textOf(raw, "consistency"),
          contentType: textOf(raw, "contentType"),
          meta: listOf(raw, "meta"),
          ifMatch: textOf(raw, "ifMatch"),
          ifNoneMatch,
        }),
      );
    });
  clientCommand(program, "get <key> [file]", "fetch an object into FILE, or to stdout, and verify its SHA-256")
    .option("--range <bytes>", "first-last, first- or -suffix")
    .option("--fields <names>", "only these top-level fields of a JSON object, comma-separated")
    .action(async (key: string, file: string | undefined, raw: Raw) => {
      const options = {
        ...clientOptions(raw),
        range: textOf(raw, "range"),
        fields: textOf(raw, "fields")?.split(",") ?? null,
      };
      finish(await (await import("./get.ts")).runGet(io, key, file ?? null, options));
    });
  clientCommand(
    program,
    "patch <key> <patch>",
    "change fields of a JSON object: JSON merge patch, a file, or - for stdin",
  )
    .option("--consistency <level>", "one, quorum or all")
    .option("--if-match <etag>", "only where the object still has this entity tag")
    .action(async (key: string, patch: string, raw: Raw) => {
      const options = {
        ...clientOptions(raw),
        consistency: textOf(raw, "consistency"),
        ifMatch: textOf(raw, "ifMatch"),
      };
      finish(await (await import("./patch.ts")).runPatch(io, key, patch, options));
    });
}

function addQueries(program: Command, io: CliIo, finish: Finish): void {
  clientCommand(program, "ls [prefix]", "list keys in the order of their bytes")
    .option("--delimiter <text>", "fold what follows this text into one line, as / makes folders")
    .option("-l, --long", "size, strategy and time too")
    .action(async (prefix: string | undefined, raw: Raw) => {
      const options = { ...clientOptions(raw), delimiter: textOf(raw, "delimiter"), long: raw["long"] === true };
      finish(await (await import("./list.ts")).runList(io, prefix ?? null, options));
    });
  clientCommand(program, "rm <key...>", "delete objects")
    .option("-f, --force", "a missing object is no failure")
    .action(async (keys: string[], raw: Raw) => {
      const options = { ...clientOptions(raw), force: raw["force"] === true };
      finish(await (await import("./remove.ts")).runRemove(io, keys, options));
    });
  clientCommand(program, "undelete <key...>", "bring deleted objects back").action(async (keys: string[], raw: Raw) =>
    finish(await (await import("./undelete.ts")).runUndelete(io, keys, clientOptions(raw))),
  );
  clientCommand(program, "stat <key>", "show what the store knows of an object").action(async (key: string, raw: Raw) =>
    finish(await (await import("./stat.ts")).runStat(io, key, clientOptions(raw))),
  );
  clientCommand(program, "watch [prefix]", "tell changes as they are committed, until Ctrl-C; over NATS only")
    .addOption(new Option("--from <start>", "new, the sequence to begin at, or a date").default("new"))
    .option("--ops <names>", "only these of put, patch, delete, comma-separated")
    .action(async (prefix: string | undefined, raw: Raw) => {
      const ops = textOf(raw, "ops")?.split(",") ?? null;
      const options = { ...clientOptions(raw), from: textOf(raw, "from") ?? "new", ops };
      finish(await (await import("./watch.ts")).runWatch(io, prefix ?? null, options));
    });
  clientCommand(program, "status", "show the health of the store and its nodes").action(async (raw: Raw) =>
    finish(await (await import("./status.ts")).runStatus(io, clientOptions(raw))),
  );
}

function addMaintenance(program: Command, io: CliIo, maintenance: Maintenance, finish: Finish): void {
  program
    .command("fsck <dir>")
    .description("read all that a stopped node, or a stopped store, holds and say what is damaged; changes nothing")
    .addOption(jsonOption())
    .action(async (dir: string, raw: Raw) =>
      finish(await (await import("./maintenance.ts")).runFsck(io, dir, raw["json"] === true, maintenance)),
    );
  withConfigOptions(
    program
      .command("rebuild-metadata")
      .description("make lost metadata anew from what the nodes hold: of the store in --data-dir, or of a cluster")
      .option("--cluster", "of a cluster, whose nodes run and whose gateways and healers do not")
      .option("--nodes <count>", "how many nodes the cluster has")
      .option("--dry-run", "only tell what would come of it")
      .option("--force", "although there is metadata"),
  )
    .addOption(jsonOption())
    .action(async (raw: Raw) => {
      const flags = { cluster: raw["cluster"] === true, dryRun: raw["dryRun"] === true, force: raw["force"] === true };
      const options = { ...configOptions(raw), ...flags, nodes: textOf(raw, "nodes"), json: raw["json"] === true };
      finish(await (await import("./maintenance.ts")).runRebuild(io, options, maintenance));
    });
}

function addConfig(program: Command, io: CliIo, finish: Finish): void {
  const config = program.command("config").description("check and show settings");
  config
    .command("check <file>")
    .description("say everything that is wrong with a settings file")
    .addOption(jsonOption())
    .action(async (file: string, raw: Raw) =>
      finish(await (await import("./config-commands.ts")).runConfigCheck(io, file, raw["json"] === true)),
    );
  config
    .command("reference")
    .description("list every setting with its variable, default and meaning, as Markdown")
    .action(async () => finish(await (await import("./config-commands.ts")).runConfigReference(io)));
  withConfigOptions(config.command("show").description("show the settings that `serve` would run with"))
    .addOption(jsonOption())
    .action(async (raw: Raw) => {
      const options = { ...configOptions(raw), json: raw["json"] === true };
      finish(await (await import("./config-commands.ts")).runConfigShow(io, options));
    });
}

function clientCommand(program: Command, signature: string, description: string): Command {
  return program
    .command(signature)
    .description(description)
    .addOption(new Option("--url <address>", "the store to talk to").env("KINTSUGI_URL").default(URL_DEFAULT))
    .addOption(new Option("--nats <url>", "the NATS server to reach the store over instead").env("KINTSUGI_NATS"))
    .addOption(new Option("--nats-creds <file>", "credentials for NATS").env("KINTSUGI_NATS_CREDS_FILE"))
    .addOption(new Option("--nats-ca <file>", "who signed its certificate").env("KINTSUGI_NATS_TLS_CA_FILE"))
    .addOption(new Option("--bucket <name>", "bucket (default: the store's own)"))
    .addOption(jsonOption())
    .hook("preAction", (_, command) => chooseDoor(command));
}

/** What is said on the command line wins over the environment; two doors at once are none. @throws {CliError} `usage` */
function chooseDoor(command: Command): void {
  const url = command.getOptionValueSource("url");
  const nats = command.getOptionValueSource("nats");
  if (url === "default" || nats === undefined || textOf(command.opts(), "nats") === "") return;
  if (url === nats) throw usageError("A store is reached by --url or by --nats, not by both: leave one out");
  if (url === "cli") command.setOptionValue("nats", undefined);
}

function withConfigOptions(command: Command): Command {
  return command
    .option("--config <file>", "settings file (default: kintsugi.yaml where there is one)")
    .option("--host <address>", "address to listen on")
    .option("--port <number>", "port to listen on, 0 for a free one")
    .option("--data-dir <path>", "where to store everything")
    .option("--name <name>", "name of this process in its cluster")
    .option("--allow-unsafe-nats", "go on with NATS servers that may lose acknowledged writes")
    .option("--log-level <level>", "debug, info, warn, error or silent")
    .option("--log-format <format>", "auto, text or json")
    .option("--set <path=value>", "any other setting; may be given more than once", append, []);
}

function jsonOption(): Option {
  return new Option("--json", "machine output: one JSON value per line");
}

function clientOptions(raw: Raw): ClientOptions {
  const natsUrl = textOf(raw, "nats") ?? "";
  const files = { credsFile: textOf(raw, "natsCreds") || null, tlsCaFile: textOf(raw, "natsCa") || null };
  return {
    url: textOf(raw, "url") ?? URL_DEFAULT,
    nats: natsUrl === "" ? null : { url: natsUrl, ...files },
    bucket: textOf(raw, "bucket"),
    json: raw["json"] === true,
  };
}

function configOptions(raw: Raw): ConfigOptions {
  return {
    config: textOf(raw, "config"),
    host: textOf(raw, "host"),
    port: textOf(raw, "port"),
    dataDir: textOf(raw, "dataDir"),
    name: textOf(raw, "name"),
    allowUnsafeNats: raw["allowUnsafeNats"] === true,
    logLevel: textOf(raw, "logLevel"),
    logFormat: textOf(raw, "logFormat"),
    set: listOf(raw, "set"),
  };
}

function textOf(raw: Raw, name: string): string | null {
  const value = raw[name];
  return typeof value === "string" ? value : null;
}

function listOf(raw: Raw, name: string): readonly string[] {
  const values = raw[name];
  return Array.isArray(values) ? (values as string[]) : [];
}

function append(value: string, values: string[]): string[] {
  return [...values, value];
}

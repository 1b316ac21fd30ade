import { parse, stringify } from "yaml";
import { loadConfig, readConfig, systemConfigSources, type Config, type FlagSetting } from "../config.ts";
import { formatConfigProblems } from "../config/problems.ts";
import { settingsReference } from "../config/reference.ts";
import { EXIT, usageError, type ExitCode } from "./exit.ts";
import { writeLine, type CliIo } from "./io.ts";

/** Flags of `serve` and `config show`; null where not given. */
export type ConfigOptions = {
  readonly config: string | null;
  readonly host: string | null;
  readonly port: string | null;
  readonly name: string | null;
  readonly allowUnsafeNats: boolean;
  readonly dataDir: string | null;
  readonly logLevel: string | null;
  readonly logFormat: string | null;
  /** `path=value` each. */
  readonly set: readonly string[];
};

/** @throws {StoreError} `config_invalid` */
export function configOf(options: ConfigOptions): Config {
  return loadConfig({ ...systemConfigSources(), configFile: options.config, flags: flagsOf(options) });
}

/** `kintsugi config check FILE`: the file alone, as if no variable and no flag were set. */
export async function runConfigCheck(io: CliIo, file: string, json: boolean): Promise<ExitCode> {
  const result = readConfig({ ...systemConfigSources(), env: {}, configFile: file, flags: [] });
  const problems = result.ok ? [] : result.problems;
  if (json) await writeLine(io.stdout, JSON.stringify({ file, ok: result.ok, problems }));
  else if (result.ok) await writeLine(io.stdout, `${file} is valid`);
  else await writeLine(io.stderr, formatConfigProblems(problems));
  return result.ok ? EXIT.ok : EXIT.usage;
}

/** `kintsugi config show`: what `serve` would run with. */
export async function runConfigShow(io: CliIo, options: ConfigOptions & { readonly json: boolean }): Promise<ExitCode> {
  const { testKillAt: _, testBug: __, credentials: ___, ...settings } = configOf(options);
  // By way of JSON, so that YAML gets plain data; lists of words stay on one line.
  const plain = JSON.stringify(settings);
  await writeLine(
    io.stdout,
    options.json ? plain : stringify(parse(plain), { collectionStyle: "any", lineWidth: 120 }).trimEnd(),
  );
  return EXIT.ok;
}

/** `kintsugi config reference` */
export async function runConfigReference(io: CliIo): Promise<ExitCode> {
  await writeLine(io.stdout, settingsReference());
  return EXIT.ok;
}

function flagsOf(options: ConfigOptions): FlagSetting[] {
  const named: [flag: string, path: string, value: string | null][] = [
    ["--host", "host", options.host],
    ["--port", "port", options.port],
    ["--data-dir", "dataDir", options.dataDir],
    ["--name", "name", options.name],
    ["--allow-unsafe-nats", "nats.allowUnsafe", options.allowUnsafeNats ? "true" : null],
    ["--log-level", "logLevel", options.logLevel],
    ["--log-format", "logFormat", options.logFormat],
  ];
  const flags = named.flatMap(([flag, path, value]) => (value === null ? [] : [{ flag, path, value }]));
  for (const pair of options.set) {
    const at = pair.indexOf("=");
    if (at < 1) throw usageError(`--set ${JSON.stringify(pair)} is not path=value, such as --set cluster.nodes=3`);
    flags.push({ flag: `--set ${pair.slice(0, at)}`, path: pair.slice(0, at), value: pair.slice(at + 1) });
  }
  return flags;
}

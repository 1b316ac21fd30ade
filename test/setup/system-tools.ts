/** Programs that tests use and npm does not have: taken from the system's package archive where this process may. */
import { spawnSync } from "node:child_process";

/**
 * Debian packages by the command they bring: faults are injected with `strace`, networks are cut with the next two,
 * disks lose their power with those behind them, and the last gives a process a clock of its own.
 */
const TOOLS = {
  strace: "strace",
  ip: "iproute2",
  iptables: "iptables",
  mount: "mount",
  "mkfs.ext4": "e2fsprogs",
  faketime: "faketime",
} as const;
/** How each says that it is there. */
const VERSION_FLAGS: Readonly<Record<string, string>> = { ip: "-V", "mkfs.ext4": "-V" };

/** Answers what could not be had, in words; the tests that need it skip with a reason of their own. */
export function installSystemTools(): string[] {
  const missing = Object.entries(TOOLS).filter(([command]) => !isThere(command));
  if (missing.length === 0) return [];
  const packages = missing.map(([, name]) => name);
  const [command, ...prefix] = process.getuid?.() === 0 ? ["apt-get"] : ["sudo", "-n", "apt-get"];
  console.log(`Installing ${packages.join(", ")} with ${[command, ...prefix].join(" ")} …`);
  if (runs(command as string, [...prefix, "update", "-qq"])) {
    runs(command as string, [...prefix, "install", "-y", "-qq", "--no-install-recommends", ...packages]);
  }
  return missing
    .filter(([tool]) => !isThere(tool))
    .map(([tool, name]) => `${tool} is missing and could not be installed: install the package ${name}`);
}

function isThere(tool: string): boolean {
  return runs(tool, [VERSION_FLAGS[tool] ?? "--version"]);
}

function runs(command: string, args: readonly string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: "ignore", env }).status === 0;
}

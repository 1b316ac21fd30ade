/** The line that belongs to every figure: without the machine a number says nothing. */
import { cpus, release, totalmem, type } from "node:os";
import { RUNTIMES, runtimeVersion, type Runtime } from "../test/support/runtimes.ts";
import { GIB } from "../src/lib/bytes.ts";

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly runtimes: Readonly<Record<Runtime, string | null>>;
  readonly date: string;
};

export function describeMachine(): Machine {
  const versions = RUNTIMES.map((runtime) => [runtime, runtimeVersion(runtime)]);
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown CPU",
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / GIB),
    kernel: `${type()} ${release()}`,
    runtimes: Object.fromEntries(versions) as Machine["runtimes"],
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
  };
}

export function machineLine(machine: Machine): string {
  const { node, bun, deno } = machine.runtimes;
  return (
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, ${machine.kernel}, ` +
    `Node ${node}, Bun ${bun ?? "–"}, Deno ${deno ?? "–"}, ${machine.date} UTC`
  );
}

/** The command line of the torture suite. */
import { parseArgs } from "node:util";
import { FAULT_KINDS, type FaultKind } from "./schedule/plan-faults.ts";

export type Options = {
  readonly seed: number;
  readonly seconds: number;
  readonly kinds: readonly FaultKind[];
  readonly liveness: boolean;
  /** Only shows what would happen. */
  readonly list: boolean;
  /** A bug to switch on, which the run then has to find. */
  readonly bug: string | null;
};

const SECONDS_DEFAULT = 180;

export const USAGE = `npm run test:faults -- [options]
  --seed N        of the workload and of the faults; another one each time without it
  --seconds N     how long faults go on, ${SECONDS_DEFAULT} without it
  --only KINDS    of faults, separated by commas: ${FAULT_KINDS.join(", ")}
  --list          show the faults of the seed, and do nothing
  --liveness      one node stopped for good: how long until writes go on, and how slow they are
  --bug NAME      switch a deliberate bug on, which has to be found: ack-early, stale-reads`;

/** @throws {Error} in one sentence */
export function parseOptions(args: readonly string[], seedDefault: number): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string" },
      seconds: { type: "string" },
      only: { type: "string" },
      bug: { type: "string" },
      liveness: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
    },
  });
  return {
    seed: wholeNumber("--seed", values.seed, seedDefault),
    seconds: wholeNumber("--seconds", values.seconds, SECONDS_DEFAULT),
    kinds: kindsOf(values.only),
    liveness: values.liveness,
    list: values.list,
    bug: values.bug ?? null,
  };
}

function wholeNumber(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${name} is a whole number, not ${text}`);
  return Number(text);
}

function kindsOf(text: string | undefined): readonly FaultKind[] {
  if (text === undefined) return FAULT_KINDS;
  return text.split(",").map((name) => {
    const kind = FAULT_KINDS.find((each) => each === name);
    if (kind === undefined) throw new Error(`There is no fault ${name}, only ${FAULT_KINDS.join(", ")}`);
    return kind;
  });
}

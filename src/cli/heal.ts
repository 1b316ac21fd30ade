/** `kintsugi heal`: what operators say to healing. */
import type { JobKind, Track } from "../domain/healing.ts";
import { TRACKS } from "../domain/healing.ts";
import { GIB, KIB, MIB } from "../lib/bytes.ts";
import { EXIT, usageError, type ExitCode } from "./exit.ts";
import { followJob, tellJob } from "./follow-job.ts";
import { drawHealing } from "./healing-map.ts";
import { writeLine, writeOut, type CliIo } from "./io.ts";
import { withOperator, type OperatorOptions } from "./operator.ts";

const WATCH_MS = 1_000;
/** Moves to the top left and clears what is below. */
const CLEAR = "\u001b[H\u001b[J";

export type HealStatusOptions = OperatorOptions & { readonly watch: boolean };

/** `kintsugi heal status`: once, or again every second until Ctrl-C. */
export async function runHealStatus(io: CliIo, options: HealStatusOptions): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    do {
      const status = await client.healing();
      const text = options.json ? JSON.stringify(status) : drawHealing(status).join("\n");
      await writeOut(io.stdout, `${options.watch && !options.json ? CLEAR : ""}${text}\n`);
      if (options.watch) await io.clock.sleep(WATCH_MS, io.signal);
    } while (options.watch && !io.signal.aborted);
    return EXIT.ok;
  });
}

export type HealJobOptions = OperatorOptions & { readonly node: string | null; readonly wait: boolean };

/** `kintsugi heal audit`, `collect`, …, `node N`: starts a job, and with `wait` watches it to its end. */
export async function runHealJob(io: CliIo, kind: JobKind, options: HealJobOptions): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    const started = await client.start(kind, options.node);
    return await tellJob(io, options.wait ? await followJob(io, client, started) : started, options.json);
  });
}

/** `kintsugi heal pause TRACK` and `resume TRACK` */
export async function runHealPause(
  io: CliIo,
  track: string,
  paused: boolean,
  options: OperatorOptions,
): Promise<ExitCode> {
  const known = parseTrack(track);
  return await change(io, options, known, { paused }, `${known} ${paused ? "is paused" : "goes on"}`);
}

/** `kintsugi heal throttle TRACK RATE` */
export async function runHealThrottle(
  io: CliIo,
  track: string,
  rate: string,
  options: OperatorOptions,
): Promise<ExitCode> {
  const known = parseTrack(track);
  const bytesPerSecond = parseRate(rate);
  const told = bytesPerSecond === null ? "as configured" : `${rate} per second`;
  return await change(io, options, known, { bytesPerSecond }, `${known} is bounded ${told}`);
}

async function change(
  io: CliIo,
  options: OperatorOptions,
  track: Track,
  control: { paused: boolean } | { bytesPerSecond: number | null },
  told: string,
): Promise<ExitCode> {
  return await withOperator(io, options, async (client) => {
    const controls = await client.control(track, control);
    await writeLine(io.stdout, options.json ? JSON.stringify(controls) : told);
    return EXIT.ok;
  });
}

function parseTrack(text: string): Track {
  const track = TRACKS.find((known) => known === text);
  if (track === undefined) throw usageError(`${JSON.stringify(text)} is none of ${TRACKS.join(", ")}`);
  return track;
}

const RATE = /^(\d{1,12})(B|KiB|MiB|GiB)?$/;
const UNITS: Readonly<Record<string, number>> = { B: 1, KiB: KIB, MiB: MIB, GiB: GIB };

/** Bytes per second; null for the configured rate. */
function parseRate(text: string): number | null {
  if (text === "default") return null;
  const match = RATE.exec(text.replace(/\/s$/, ""));
  const bytes = match === null ? Number.NaN : Number(match[1]) * (UNITS[match[2] ?? "B"] as number);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw usageError(`A rate is bytes per second, such as 1048576 or 16MiB, or default; not ${JSON.stringify(text)}`);
}

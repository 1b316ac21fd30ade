import { formatBytes } from "../lib/bytes.ts";
import { displayText, type CliIo } from "./io.ts";

/** Transfers shorter than this show nothing. */
const QUIET_MS = 1_000;

export type Progress = { add(bytes: number): void; stop(): void };

/** A bar on stderr for a transfer that takes its time, where somebody is watching. `sizeBytes` null: not known. */
export function startProgress(io: CliIo, label: string, sizeBytes: number | null): Progress {
  if (!io.stderrIsTerminal) return { add() {}, stop() {} };
  const startedMs = io.clock.monotonicMs();
  let movedBytes = 0;
  let stopped = false;
  let bar: { update(value: number): void; stop(): void } | null = null;
  let loading = false;

  async function showBar(): Promise<void> {
    loading = true;
    const { SingleBar } = (await import("cli-progress")).default;
    if (stopped) return;
    const shape = sizeBytes === null ? "{value}  {speed}/s" : "{bar} {percentage}%  {value} of {total}  {speed}/s";
    const created = new SingleBar({
      format: `${displayText(label)}  ${shape}`,
      stream: io.stderr,
      clearOnComplete: true,
      hideCursor: true,
      barsize: 24,
      barCompleteChar: "█",
      barIncompleteChar: "░",
      formatValue: (value, _options, type) =>
        type === "value" || type === "total" ? formatBytes(value) : String(value),
    });
    const speed = () => formatBytes(Math.round((movedBytes * 1_000) / (io.clock.monotonicMs() - startedMs)));
    created.start(sizeBytes ?? 0, movedBytes, { speed: speed() });
    bar = { update: (value) => created.update(value, { speed: speed() }), stop: () => created.stop() };
  }

  return {
    add(bytes) {
      movedBytes += bytes;
      if (bar !== null) bar.update(movedBytes);
      else if (!loading && io.clock.monotonicMs() - startedMs > QUIET_MS) void showBar();
    },
    stop() {
      stopped = true;
      bar?.stop();
    },
  };
}

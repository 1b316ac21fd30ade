import { formatBytes } from "../lib/bytes.ts";
import { displayText, type CliIo } from "./io.ts";

export type WorkProgressBar = {
  /** `total` null: not known. */
  show(done: number, total: number | null, unit: string): Promise<void>;
  stop(): void;
};

/** A bar on stderr for work that the store does, where somebody is watching. */
export function startWorkProgress(io: CliIo, label: string): WorkProgressBar {
  if (!io.stderrIsTerminal) return { show: () => Promise.resolve(), stop() {} };
  let shown: { readonly unit: string; update(done: number, total: number): void; stop(): void } | null = null;
  return {
    async show(done, total, unit) {
      if (shown?.unit !== unit) {
        shown?.stop();
        shown = await createBar(io, label, unit);
      }
      shown.update(done, total ?? 0);
    },
    stop() {
      shown?.stop();
    },
  };
}

async function createBar(io: CliIo, label: string, unit: string) {
  const { SingleBar } = (await import("cli-progress")).default;
  const figure = (value: number) => (unit === "bytes" ? formatBytes(value) : String(value));
  const bar = new SingleBar({
    format: `${displayText(label)}  {bar} {percentage}%  {value} of {total}${unit === "bytes" ? "" : ` ${displayText(unit)}`}`,
    stream: io.stderr,
    clearOnComplete: true,
    hideCursor: true,
    barsize: 24,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    formatValue: (value, _options, type) => (type === "value" || type === "total" ? figure(value) : String(value)),
  });
  bar.start(0, 0, {});
  return {
    unit,
    update(done: number, total: number) {
      bar.setTotal(total);
      bar.update(done, {});
    },
    stop: () => bar.stop(),
  };
}

import type { Runtime } from "../test/support/runtimes.ts";

export type Unit = "/s" | "MB/s" | "MB" | "ms" | "×" | "%" | "bytes";

export type Figure = {
  readonly label: string;
  readonly value: number;
  readonly unit: Unit;
  /** What `value` is the median of. */
  readonly samples?: readonly number[];
};

export type Aim = { readonly text: string; readonly met: boolean };

export type RowResult = {
  readonly measured: readonly Figure[];
  /** Taken in the same run, moments before or after. */
  readonly yardsticks: readonly Figure[];
  readonly aims: readonly Aim[];
  readonly notes: readonly string[];
};

export type RowContext = {
  readonly runtime: Runtime;
  /** An empty directory of this row's own, removed afterwards. */
  readonly directory: string;
  readonly samples: number;
  /** Of load per sample. */
  readonly seconds: number;
  /** Smaller sizes and fewer samples: to see that it works, not to quote. */
  readonly quick: boolean;
};

export type Row = {
  readonly name: string;
  readonly title: string;
  readonly runtimes: readonly Runtime[];
  run(context: RowContext): Promise<RowResult>;
};

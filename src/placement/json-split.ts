import type { HybridLayout } from "../domain/manifest.ts";

export type SplitOptions = {
  readonly hotFields: readonly string[];
  /** strict: anything but a JSON object with unique hot fields is refused. lenient: such bytes pass through unaddressable. */
  readonly mode: "strict" | "lenient";
};

export type JsonSplitter = {
  /** Scans the next bytes and moves the cold ones among them down to the start of `bytes`; answers how many are cold. */
  push(bytes: Uint8Array): number;
  /** @throws {StoreError} strict only */
  finish(): { hot: Uint8Array; layout: HybridLayout };
};

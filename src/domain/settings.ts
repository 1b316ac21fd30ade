import type { StrategyChoice } from "./manifest.ts";
import type { Consistency } from "./receipt.ts";

/** What a bucket decides for its objects; from `kintsugi.yaml`, see `config.ts` for the defaults. */
export type BucketSettings = {
  readonly strategy: StrategyChoice;
  /** Data and parity shards of erasure-coded content. */
  readonly k: number;
  readonly m: number;
  /** Copies of replicated content. */
  readonly replicas: number;
  readonly consistency: Consistency;
  /** `auto`: bodies up to this size live in the record. */
  readonly inlineBytesMax: number;
  /** `auto`: bodies up to this size are replicated. */
  readonly replicationBytesMax: number;
  /** `auto`: JSON objects from this size on are split by field. */
  readonly hybridBytesMin: number;
  readonly hotFields: readonly string[];
};

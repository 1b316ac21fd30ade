import type { Metric, MetricObject, Registry } from "prom-client";

/** Upper bounds, fine enough that a quantile read between two of them is off by little. */
export const DURATION_BOUNDS_S = [
  0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
  60, 300,
];

/** What was observed under one set of labels. */
export type DurationSeries = {
  readonly labels: Readonly<Record<string, string>>;
  /** Observations up to the bound of the same index and above the one before; the last is beyond all bounds. */
  readonly counts: Float64Array;
  count: number;
  sumSeconds: number;
};

/**
 * A histogram that prom-client's registry can render. Its own looks up and hashes the labels at every observation,
 * which is a noticeable part of a small request; here the caller keeps the series and an observation is three additions.
 */
export class DurationHistogram {
  readonly #name: string;
  readonly #help: string;
  readonly #series: DurationSeries[] = [];

  constructor(name: string, help: string, registry: Registry) {
    this.#name = name;
    this.#help = help;
    registry.registerMetric(this as unknown as Metric);
  }

  /** The registry knows metrics by this. */
  get name(): string {
    return this.#name;
  }

  get series(): readonly DurationSeries[] {
    return this.#series;
  }

  open(labels: Readonly<Record<string, string>>): DurationSeries {
    const counts = new Float64Array(DURATION_BOUNDS_S.length + 1);
    const series: DurationSeries = { labels, counts, count: 0, sumSeconds: 0 };
    this.#series.push(series);
    return series;
  }

  /** Called by the registry. */
  get(): Promise<MetricObject & { values: unknown[] }> {
    const values = this.#series.flatMap(({ labels, counts, count, sumSeconds }) => {
      let below = 0;
      const buckets = [...counts].map((inBucket, index) => ({
        metricName: `${this.#name}_bucket`,
        labels: { le: DURATION_BOUNDS_S[index] ?? "+Inf", ...labels },
        value: (below += inBucket),
      }));
      return [
        ...buckets,
        { metricName: `${this.#name}_sum`, labels, value: sumSeconds },
        { metricName: `${this.#name}_count`, labels, value: count },
      ];
    });
    const metric = { name: this.#name, help: this.#help, type: "histogram", values, aggregator: "sum" };
    return Promise.resolve(metric as unknown as MetricObject & { values: unknown[] });
  }

  /** Called by the registry. */
  reset(): void {
    this.#series.length = 0;
  }
}

export function observeDuration(series: DurationSeries, seconds: number): void {
  let index = 0;
  while (index < DURATION_BOUNDS_S.length && seconds > (DURATION_BOUNDS_S[index] as number)) index += 1;
  series.counts[index] = (series.counts[index] as number) + 1;
  series.count += 1;
  series.sumSeconds += seconds;
}

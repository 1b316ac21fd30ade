/** Work that is kept going a given number of times at once, for as long as the clock runs. */
export type FlightResult = {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failed: number;
};

/** `work(n)` does the n-th piece, counted over all; a rejection counts as failed and the lane goes on. */
export async function keepInFlight(
  lanes: number,
  seconds: number,
  work: (n: number) => Promise<unknown>,
): Promise<FlightResult> {
  const durationsMs: number[] = [];
  let [started, failed] = [0, 0];
  const startedAt = performance.now();
  const endAt = startedAt + seconds * 1_000;
  const fly = async () => {
    while (performance.now() < endAt) {
      const from = performance.now();
      try {
        await work(started++);
        durationsMs.push(performance.now() - from);
      } catch {
        failed += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, fly));
  const tookSeconds = (performance.now() - startedAt) / 1_000;
  durationsMs.sort((a, b) => a - b);
  const quantile = (share: number) => durationsMs[Math.floor(durationsMs.length * share)] ?? 0;
  return { perSecond: durationsMs.length / tookSeconds, p50Ms: quantile(0.5), p99Ms: quantile(0.99), failed };
}

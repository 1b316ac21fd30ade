import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: new URL("..", import.meta.url).pathname,
    include: ["test/{unit,contract,property,system,runtime}/**/*.test.ts"],
    pool: "forks",
    // Many tests wait for what others do: an election, a lease, a deadline. Two files at a time fill two cores.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // What a busy machine does late it still does.
    expect: { poll: { timeout: 30_000 } },
  },
});

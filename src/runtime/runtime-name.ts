/** Which JavaScript runtime this process runs on, for people: `node 24.21.0`. */
export function runtimeName(): string {
  const { bun, deno, node } = process.versions as Record<string, string | undefined>;
  if (bun !== undefined) return `bun ${bun}`;
  if (deno !== undefined) return `deno ${deno}`;
  return `node ${node ?? "unknown"}`;
}

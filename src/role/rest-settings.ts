import type { Config } from "../config.ts";
import type { RestSettings } from "../gateway/rest/server.ts";

export function restSettingsOf(config: Config, port: number): RestSettings {
  return { host: config.host, port, drainMs: config.timeouts.drainMs, ...config.http };
}

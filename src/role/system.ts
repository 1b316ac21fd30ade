import type { System } from "../compose/system.ts";
import type { Config } from "../config.ts";
import { systemClock } from "../lib/clock.ts";
import { systemRandom } from "../lib/random.ts";
import { killingFaultPoints } from "./kill-point.ts";
import { createPinoLogger } from "./pino-logger.ts";

/** Clock, randomness and log of the running process. */
export function createSystem(config: Config): System {
  return {
    clock: systemClock,
    random: systemRandom,
    logger: createPinoLogger({ level: config.logLevel, format: config.logFormat }),
    faults: killingFaultPoints(config.testKillAt),
  };
}

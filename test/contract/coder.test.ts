import { createAdaptiveCoder, createCoder } from "../../src/coding/adaptive-coder.ts";
import { createInlineCoder } from "../../src/coding/inline-coder.ts";
import { createPiscinaCoder } from "../../src/coding/piscina-coder.ts";
import { createReedSolomon } from "../../src/coding/reed-solomon.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { describeCoder } from "./coder.contract.ts";

const common = { clock: systemClock, logger: silentLogger } as const;
const inline = (forceFallback: boolean) =>
  createInlineCoder({ reedSolomon: createReedSolomon({ forceFallback }), clock: systemClock });

describeCoder("inline coder", () => inline(false));
describeCoder("inline coder without the addon", () => inline(true));
describeCoder("piscina coder", () => createPiscinaCoder({ ...common, threads: 2 }));
describeCoder("piscina coder without the addon", () =>
  createPiscinaCoder({ ...common, threads: 1, forceFallback: true }),
);
describeCoder("adaptive coder", () => createCoder({ ...common, threads: 1 }));
// So small a limit moves nearly every upload to the second coder in the middle.
describeCoder("adaptive coder that moves uploads early", () => createAdaptiveCoder(inline(false), inline(false), 100));

import type { Clock } from "../lib/clock.ts";
import type { Coder } from "./coder.ts";
import { CodingSession } from "./coding-session.ts";
import { runDocumentTask } from "./document-task.ts";
import type { ReedSolomon } from "./reed-solomon.ts";
import { noneSpent } from "./spent.ts";
import { decodeStripe } from "./stripe-code.ts";

/** The coder in the calling thread: for tests, and where a trip to a thread costs more than the work. */
export function createInlineCoder(deps: { readonly reedSolomon: ReedSolomon; readonly clock: Clock }): Coder {
  const spent = noneSpent();
  return {
    openUpload: async (options) => new CodingSession(deps, options, spent),
    async verifyAndDecode(stripe, request) {
      const startMs = deps.clock.monotonicMs();
      const result = await decodeStripe(deps.reedSolomon, stripe.bytes, request);
      spent.decodeMs += deps.clock.monotonicMs() - startMs;
      return result;
    },
    transform: async (task) => runDocumentTask(task),
    spent: () => ({ ...spent }),
    async close() {},
  };
}

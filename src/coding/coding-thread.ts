import type { MessagePort } from "node:worker_threads";
import { systemClock } from "../lib/clock.ts";
import { CallOrder } from "./call-order.ts";
import type { Stripe, UploadOptions } from "./coder.ts";
import type { Answer, CodingTask, CodingThreadSettings, UploadCall } from "./coding-messages.ts";
import { compactBytes, failureOf } from "./coding-messages.ts";
import type { CodingDeps } from "./coding-session.ts";
import { CodingSession } from "./coding-session.ts";
import { runDocumentTask } from "./document-task.ts";
import { createReedSolomon } from "./reed-solomon.ts";
import type { Spent } from "./spent.ts";
import { noneSpent } from "./spent.ts";
import { decodeStripe } from "./stripe-code.ts";

/**
 * What runs inside a coding thread: the tasks that `piscina-coder.ts` sends. Many uploads share a thread; each has at
 * most one call under way, so their stripes take turns.
 */
export function createCodingThread(settings: CodingThreadSettings): (task: CodingTask) => Promise<Answer> {
  const deps = { reedSolomon: createReedSolomon(settings), clock: systemClock };
  return async (task) => {
    const spent = noneSpent();
    return await answerWith(spent, async () => {
      switch (task.kind) {
        case "upload":
          return await serveUpload(deps, settings, task.options, task.port);
        case "decode": {
          if (settings.dieOn?.txid === task.request.txid) die(settings.dieOn.by);
          const startMs = deps.clock.monotonicMs();
          const result = await decodeStripe(deps.reedSolomon, new Uint8Array(task.memory), task.request);
          spent.decodeMs = deps.clock.monotonicMs() - startMs;
          return result;
        }
        case "document":
          return compactBytes(runDocumentTask(task.task));
      }
    });
  };
}

/** Answers the calls of one upload until it closes. */
async function serveUpload(
  deps: CodingDeps,
  settings: CodingThreadSettings,
  options: UploadOptions,
  port: MessagePort,
): Promise<void> {
  const spent = noneSpent();
  const session = new CodingSession(deps, options, spent);
  const order = new CallOrder();
  await new Promise<void>((resolve) => {
    port.on("message", (call: UploadCall) => {
      if (settings.dieOn?.txid === options.txid && "from" in call) return die(settings.dieOn.by);
      void order.run(async () => {
        port.postMessage(await answerWith(spent, () => runCall(session, call)));
        if (call.op === "close") resolve();
      });
    });
  });
  port.close();
}

async function runCall(session: CodingSession, call: UploadCall): Promise<unknown> {
  switch (call.op) {
    case "absorb":
      return await session.absorb(stripeOf(call.memory), call.from, call.to);
    case "encode":
      return await session.encode(stripeOf(call.memory), call.request);
    case "absorbAndEncode":
      return await session.absorbAndEncode(stripeOf(call.memory), call.from, call.to, call.request);
    case "finish": {
      const digests = await session.finish();
      const { split } = digests;
      return { ...digests, split: split === null ? null : { ...split, hot: compactBytes(split.hot) } };
    }
    case "close":
      return await session.close();
  }
}

async function answerWith(spent: Spent, work: () => Promise<unknown>): Promise<Answer> {
  try {
    const value = await work();
    const answer: Answer = { ok: true, value, spent: { ...spent } };
    Object.assign(spent, noneSpent());
    return answer;
  } catch (cause) {
    return failureOf(cause);
  }
}

function stripeOf(memory: SharedArrayBuffer): Stripe {
  return { memory, bytes: new Uint8Array(memory) };
}

function die(by: "exit" | "throw"): void {
  if (by === "exit") process.exit(1);
  queueMicrotask(() => {
    throw new Error("This coding thread was told to die");
  });
}

import type { DeskAnswer, DeskRequest, TrackReports } from "../../../../src/desk/healing-codec.ts";
import type { HealingLedger } from "../../../../src/desk/healing-ledger.ts";
import type { HealingControls } from "../../../../src/domain/healing.ts";
import type { NodeName } from "../../../../src/domain/ids.ts";
import { sampleJob, sampleReport } from "../../../support/test-desk.ts";

const n1 = "n1" as NodeName;

export const CONTROLS: Readonly<Record<string, HealingControls>> = {
  "controls of two tracks": {
    repair: { paused: false, bytesPerSecond: 16_777_216, runs: 0 },
    scrub: { paused: true, bytesPerSecond: null, runs: 3 },
  },
};

export const LEDGERS: Readonly<Record<string, HealingLedger>> = {
  "a ledger": {
    term: 12,
    jobs: [sampleJob(), sampleJob({ id: "j2", kind: "recover_node", node: n1, state: "failed", failure: "away" })],
    incidents: [
      {
        ...{ id: "i1", kind: "node_returned", node: n1, noticedAtMs: 1_750_000_000_123, repairMs: 2_500 },
        ...{ objects: 0, bytes: 0 },
      },
      { id: "i2", kind: "damage", node: null, noticedAtMs: 1_750_000_000_123, repairMs: null, objects: 0, bytes: 0 },
    ],
    nodes: { [n1]: { instance: "00aa", blobCount: 70_000, awayMs: 1_500, isLost: false, isUnverified: true } },
    lacking: { n1: 4, "": 1 },
  },
};

export const REQUESTS: Readonly<Record<string, DeskRequest>> = {
  "a question for the status": { ask: "status" },
  "a wish for a job": { ask: "start", kind: "recover_node", node: n1 },
  "a question for a job": { ask: "job", id: "j1" },
  "a control": { ask: "control", track: "repair", change: { bytesPerSecond: null } },
  "a wish to drain": { ask: "drain", node: n1, draining: true },
  "a wish to remove": { ask: "remove", node: n1 },
};

export const ANSWERS: Readonly<Record<string, DeskAnswer>> = {
  "an answer": { value: { repair: { paused: true } } },
  "a refusal": { failure: { code: "node_unknown", message: "There is no node", retriable: false } },
};

export const REPORTS: Readonly<Record<string, TrackReports>> = {
  "a report of tracks": { process: "n1", reports: [sampleReport()] },
};

export const DRAINING: Readonly<Record<string, readonly NodeName[]>> = {
  "two nodes that drain": [n1, "n2" as NodeName],
};

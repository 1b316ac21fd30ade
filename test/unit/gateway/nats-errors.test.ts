import { expect, test } from "vitest";
import { ERROR_CODES, StoreError } from "../../../src/domain/errors.ts";
import { asStoreError, errorAnswerOf, FAULTS, type FaultKind } from "../../../src/gateway/nats/errors.ts";
import { PROBLEMS } from "../../../src/gateway/rest/errors.ts";

test("FAULTS tells every failure with the status, the title and the discretion of REST", () => {
  for (const code of ERROR_CODES) {
    const { serviceCode, title, open } = FAULTS[code];
    expect({ code, status: serviceCode, title, open }).toEqual({
      ...{ code, status: PROBLEMS[code].status, title: PROBLEMS[code].title, open: PROBLEMS[code].open },
    });
  }
});

test("FAULTS calls what REST wants repeated later retriable", () => {
  for (const code of ERROR_CODES) {
    const answer = errorAnswerOf(new StoreError(code, "x"), "id");
    expect([code, answer.retriable]).toEqual([code, "retryAfterS" in PROBLEMS[code]]);
    expect(answer.retryAfterMs !== null).toBe(answer.retriable);
  }
});

test("FAULTS calls no failure doubtful that a client's own mistake causes", () => {
  for (const code of ERROR_CODES) {
    const kind: FaultKind = FAULTS[code];
    if (kind.serviceCode < 500) expect([code, kind.doubtful]).toEqual([code, undefined]);
  }
});

test("errorAnswerOf() tells nothing of failures of ours but the code", () => {
  const secret = "disk /dev/sda of 10.0.0.7";
  for (const cause of [
    new Error(secret),
    new StoreError("storage_error", secret, { details: { path: secret } }),
    new StoreError("object_damaged", secret, { cause: new Error(secret) }),
  ]) {
    const text = JSON.stringify(errorAnswerOf(asStoreError(cause), "id"));
    expect(text).not.toContain("10.0.0.7");
    expect(text).toContain('"requestId":"id"');
  }
  const open = new StoreError("body_too_large", "too large", { details: { bytesMax: 7 } });
  expect(errorAnswerOf(open, "id")).toMatchObject({ message: "too large", details: { bytesMax: 7 }, outcome: "none" });
});

import { describe } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { openTestLeading } from "../support/leading.ts";
import { healingDeskContract } from "./healing-desk.contract.ts";

describe("the desk of a store in one process", () => {
  healingDeskContract(async () => {
    const leading = await openTestLeading({ clock: systemClock });
    const desk = { ...leading.leading.desk, close: () => Promise.resolve() };
    return { desk, leading, [Symbol.asyncDispose]: () => leading[Symbol.asyncDispose]() };
  });
});

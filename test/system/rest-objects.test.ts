import { describe } from "vitest";
import { startTestRest } from "../support/rest-server.ts";
import { restSuite } from "../support/rest-suite.ts";
import { startServe } from "../support/serve.ts";

describe("the REST door over objects in memory", () => {
  restSuite(() => startTestRest());
});

describe("the REST door of the served store", () => {
  restSuite(() => startServe());
});

import { describe, expect, it } from "vitest";
import { HELP, parseClusterOptions } from "../../../cluster/options.ts";

function optionsOf(...args: string[]) {
  const parsed = parseClusterOptions(args);
  if (parsed.kind !== "run") throw new Error(`${args.join(" ")} gave ${JSON.stringify(parsed)}`);
  return parsed.options;
}

describe("parseClusterOptions()", () => {
  it("starts 3 nats-servers, 6 nodes, 3 gateways, 2 healers and nginx on port 8000 without options", () => {
    expect(optionsOf()).toEqual({
      ...{ dir: "data/cluster", clean: false, host: "127.0.0.1", port: 8_000, basePort: 8_000 },
      ...{ natsServers: 3, nodes: 6, gateways: 3, healers: 2, nginx: true, restart: true },
    });
  });

  it("takes every option that the help names", () => {
    const args = [
      "--dir",
      "/x",
      "--clean",
      "--port",
      "80",
      "--base-port",
      "9000",
      "--host",
      "0.0.0.0",
      "--gateways",
      "1",
    ];
    expect(optionsOf(...args, "--nodes", "3", "--healers", "1", "--nats=5", "--no-nginx", "--no-restart")).toEqual({
      ...{ dir: "/x", clean: true, host: "0.0.0.0", port: 80, basePort: 9_000 },
      ...{ natsServers: 5, nodes: 3, gateways: 1, healers: 1, nginx: false, restart: false },
    });
    for (const [option] of HELP.matchAll(/--[a-z-]+(?= )/g)) {
      expect(parseClusterOptions([option])).not.toMatchObject({
        message: expect.stringContaining("Unknown") as string,
      });
    }
  });

  it("lets nginx listen on the base port unless told otherwise", () => {
    expect(optionsOf("--base-port", "9000")).toMatchObject({ port: 9_000, basePort: 9_000 });
    expect(optionsOf("--port", "9000")).toMatchObject({ port: 9_000, basePort: 8_000 });
  });

  it.each([
    [["--node", "6"], /--node/],
    [["start"], /start/],
    [["--port"], /--port/],
    [["--nodes", "2"], /--nodes 2 is not allowed: give a number from 3 to 64/],
    [["--nodes", "six"], /--nodes six is not allowed/],
    [["--gateways", "0"], /--gateways 0/],
    [["--nats", "2"], /--nats 2 is not allowed: give 1, 3 or 5/],
    [["--port", "70000"], /--port 70000/],
    [["--base-port", "65000"], /--base-port 65000/],
    [["--dir", ""], /--dir is empty/],
    [["--nodes", "2", "--base-port", "abc"], /--base-port abc .*\n--nodes 2 is not allowed/],
  ])("refuses %j in words", (args, message) => {
    expect(parseClusterOptions(args)).toEqual({ kind: "wrong", message: expect.stringMatching(message) as string });
  });

  it("answers a wish for help before anything that is wrong", () => {
    expect(parseClusterOptions(["--help", "--nodes", "1"]).kind).toBe("help");
    expect(parseClusterOptions(["-h"]).kind).toBe("help");
  });
});

import { createInProcessLease } from "../../src/lease/in-process-lease.ts";
import type { LeaseHarness } from "./lease.contract.ts";
import { describeLease } from "./lease.contract.ts";

const open = async () => {
  let lease = createInProcessLease();
  return {
    get lease() {
      return lease;
    },
    // There is no other process.
    get other() {
      return lease;
    },
    async reopen() {
      await lease.close();
      lease = createInProcessLease();
    },
    [Symbol.asyncDispose]: () => lease.close(),
  } satisfies LeaseHarness;
};

describeLease("in-process lease", open, { expires: false });

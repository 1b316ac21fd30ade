/** Reports of reads over core NATS: stored nowhere, and lost where nobody listens. */
import { isStoreError } from "../domain/errors.ts";
import { heatReportCodec } from "../domain/heat.ts";
import type { NatsLink } from "../nats/nats-link.ts";
import type { HeatReporter, HeatReports } from "./heat-reports.ts";
import { ReceivedHeat } from "./heat-reports.ts";

export function createNatsHeatReporter({ connection, names, processName }: NatsLink): HeatReporter {
  return {
    report(objects) {
      // What is said while the connection is lost would be old when there is another one, and another report follows.
      if (connection.isClosed()) return;
      connection.publish(names.heatSubject, heatReportCodec.encode({ process: processName, objects }));
    },
  };
}

/** Listens to the reports of all processes until it is disposed. */
export function openNatsHeatReports(link: NatsLink): HeatReports & Disposable {
  const { connection, names, clock, logger } = link;
  const received = new ReceivedHeat(clock);
  let hasWarned = false;
  const subscription = connection.subscribe(names.heatSubject, {
    callback: (failure, message) => {
      if (failure !== null) {
        logger.error({ cause: failure.message }, "cannot hear how often other processes read objects");
        return;
      }
      try {
        received.receive(heatReportCodec.decode(message.data));
      } catch (cause) {
        if (!isStoreError(cause, "format_unknown")) throw cause;
        if (!hasWarned) logger.warn({ cause: cause.message }, "a report of reads is not understood");
        hasWarned = true;
      }
    },
  });
  return {
    collect: () => received.collect(),
    [Symbol.dispose]: () => subscription.unsubscribe(),
  };
}

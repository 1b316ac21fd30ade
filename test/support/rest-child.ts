/** A REST server in a process of its own: prints its port, answers until killed. Settings come as JSON. */
import { startTestRest } from "./rest-server.ts";

const server = await startTestRest(JSON.parse(process.argv[2] ?? "{}") as object);
console.log(String(server.port));

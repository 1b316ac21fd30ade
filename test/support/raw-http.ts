/** HTTP as bytes, for what no proper client sends. */
import { connect, type Socket } from "node:net";

export type RawAnswer = {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
};

export type RawConnection = Disposable & {
  readonly socket: Socket;
  write(data: string | Uint8Array): void;
  /** The next whole answer. Rejects when the connection ends before one is complete. */
  next(): Promise<RawAnswer>;
  /** Resolves with what came and was no whole answer, when the other side has closed. */
  closed(): Promise<string>;
  /** Everything received and not yet taken as an answer. */
  pending(): string;
};

export async function openRaw(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  let buffer = Buffer.alloc(0);
  let ended = false;
  let wake = () => {};
  socket.on("data", (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    wake();
  });
  // A reset is one of the ways in which a server may end a connection.
  socket.on("error", () => {});
  socket.on("close", () => {
    ended = true;
    wake();
  });
  socket.on("end", () => socket.end());
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const changed = () => new Promise<void>((resolve) => (wake = resolve));
  return {
    socket,
    write: (data) => void socket.write(data),
    async next() {
      for (;;) {
        const parsed = parseAnswer(buffer);
        if (parsed !== null) {
          buffer = buffer.subarray(parsed.bytes);
          // An interim answer announces another.
          if (parsed.answer.status !== 100) return parsed.answer;
          continue;
        }
        if (ended) throw new Error(`connection ended after ${JSON.stringify(buffer.toString("latin1").slice(0, 300))}`);
        await changed();
      }
    },
    async closed() {
      while (!ended) await changed();
      return buffer.toString("latin1");
    },
    pending: () => buffer.toString("latin1"),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/** Sends bytes on a fresh connection and gives back the first answer. */
export async function sendRaw(url: string, data: string | Uint8Array): Promise<RawAnswer> {
  using connection = await openRaw(url);
  connection.write(data);
  return await connection.next();
}

function parseAnswer(buffer: Buffer): { answer: RawAnswer; bytes: number } | null {
  const end = buffer.indexOf("\r\n\r\n");
  if (end === -1) return null;
  const [statusLine = "", ...lines] = buffer.subarray(0, end).toString("latin1").split("\r\n");
  const headers = new Map(
    lines.map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()] as const;
    }),
  );
  const status = Number(statusLine.split(" ")[1]);
  const length =
    status === 100 || status === 204 || status === 304 ? 0 : Number(headers.get("content-length") ?? Number.NaN);
  if (Number.isNaN(length)) throw new Error(`an answer without a length: ${statusLine}`);
  const start = end + 4;
  if (buffer.length < start + length) return null;
  const body = buffer.subarray(start, start + length).toString("latin1");
  return { answer: { status, headers, body }, bytes: start + length };
}

/** The `code` of a problem document. */
export function codeOf(answer: RawAnswer): string {
  return (JSON.parse(answer.body) as { code: string }).code;
}

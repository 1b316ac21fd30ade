/**
 * One large body over one connection, with the least a client can cost: a plain socket, one buffer for everything that
 * comes in, and slices of memory that already exists for everything that goes out.
 */
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { MIB } from "../src/lib/bytes.ts";

export type UploadOptions = {
  readonly path: string;
  /** Sent over and over until `bytes` are reached. */
  readonly source: Buffer;
  readonly bytes: number;
};

export type Transfer = { readonly status: number; readonly bytes: number; readonly ms: number };

const CHUNK_BYTES = MIB;
const HEAD_BYTES_MAX = 64 * 1024;

/** Resolves when the whole answer has come. @throws {Error} the answer was not 2xx, or the connection broke */
export async function upload(url: string, options: UploadOptions): Promise<Transfer> {
  const startedAt = performance.now();
  const answer = openAnswer(url, () => {});
  const { socket } = answer;
  socket.write(
    `PUT ${options.path} HTTP/1.1\r\nhost: ${new URL(url).host}\r\n` +
      `content-type: application/octet-stream\r\ncontent-length: ${options.bytes}\r\n\r\n`,
  );
  let ended = false;
  void answer.done.catch(() => {}).then(() => (ended = true));
  for (let sent = 0; sent < options.bytes && !ended;) {
    const from = sent % options.source.length;
    const chunk = options.source.subarray(from, from + Math.min(CHUNK_BYTES, options.bytes - sent));
    sent += chunk.length;
    if (!socket.write(chunk)) await Promise.race([onceDrained(socket), answer.done.catch(() => {})]);
  }
  const { status } = await answer.done;
  return { status, bytes: options.bytes, ms: performance.now() - startedAt };
}

/** Reads a body and lets it go. `bytes` is what came. */
export async function download(url: string, path: string): Promise<Transfer> {
  const startedAt = performance.now();
  const { bytes, status } = await get(url, path, () => {});
  return { status, bytes, ms: performance.now() - startedAt };
}

/** Lower-case hex of a body; slower than `download`, for checking what was measured. */
export async function downloadSha256(url: string, path: string): Promise<string> {
  const hash = createHash("sha256");
  await get(url, path, (chunk) => hash.update(chunk));
  return hash.digest("hex");
}

async function get(url: string, path: string, onBytes: (chunk: Buffer) => void) {
  const answer = openAnswer(url, onBytes);
  answer.socket.write(`GET ${path} HTTP/1.1\r\nhost: ${new URL(url).host}\r\n\r\n`);
  const result = await answer.done;
  if (result.bytes !== result.contentLength) {
    throw new Error(`GET ${path} gave ${result.bytes} of ${result.contentLength} bytes`);
  }
  return result;
}

type Answer = { readonly status: number; readonly bytes: number; readonly contentLength: number };

/** Opens a connection and reads one answer to its end. `onBytes` gets memory that is overwritten afterwards. */
function openAnswer(url: string, onBytes: (chunk: Buffer) => void): { socket: Socket; done: Promise<Answer> } {
  const { hostname, port } = new URL(url);
  const head = { text: "", status: 0, contentLength: -1, done: false };
  const { promise: done, resolve, reject } = Promise.withResolvers<Answer>();
  let bytes = 0;
  const settle = () => {
    if (head.status >= 200 && head.status < 300) {
      resolve({ status: head.status, bytes, contentLength: head.contentLength });
    } else {
      reject(new Error(`The server answered ${head.status === 0 ? "nothing" : head.text}`));
    }
    socket.destroy();
  };
  const take = (count: number, memory: Uint8Array): boolean => {
    const chunk = Buffer.from(memory.buffer, memory.byteOffset, count);
    const body = head.done ? chunk : readHead(head, chunk);
    bytes += body.length;
    if (body.length > 0) onBytes(body);
    // Not left to the end of the connection: some servers reset it, and what was not yet read is lost.
    if (head.done && (bytes === head.contentLength || (head.contentLength < 0 && endsChunked(body)))) settle();
    return true;
  };
  const socket = connect({
    host: hostname,
    port: Number(port),
    noDelay: true,
    onread: { buffer: Buffer.allocUnsafe(CHUNK_BYTES), callback: take },
  });
  socket.on("error", reject);
  socket.once("close", settle);
  return { socket, done };
}

/** Collects the head of the answer; gives back the bytes behind it. */
function readHead(head: { text: string; status: number; contentLength: number; done: boolean }, chunk: Buffer): Buffer {
  const before = head.text.length;
  head.text += chunk.toString("latin1", 0, HEAD_BYTES_MAX);
  const end = head.text.indexOf("\r\n\r\n");
  if (end < 0) return chunk.subarray(chunk.length);
  head.status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head.text)?.[1] ?? 0);
  head.contentLength = Number(/^content-length: *(\d+)/im.exec(head.text.slice(0, end))?.[1] ?? -1);
  head.done = true;
  return chunk.subarray(end + 4 - before);
}

/** Whether a body of unknown length has come to its last, empty chunk. */
function endsChunked(body: Buffer): boolean {
  return body.subarray(-5).toString("latin1") === "0\r\n\r\n";
}

function onceDrained(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("drain", () => resolve()));
}

/**
 * The receiving half of an HTTP/1.1 client: bytes of a connection in, heads and bodies of answers out, whatever way the
 * bytes are cut. It knows what a server of ours sends and calls everything else a fault: an answer says its length or is
 * chunked, has no trailers, and its head is small.
 */
export type AnswerEvents = {
  /** Another answer follows this interim one (100 to 199). */
  onInterim(status: number): void;
  /** `keepAlive`: whether the connection can carry another request after this answer. */
  onHead(status: number, keepAlive: boolean): void;
  /** A piece of the body, never empty; a view of what was fed. */
  onBody(piece: Buffer): void;
  onEnd(): void;
};

/** What came is no answer that could be understood. */
export class AnswerFault extends Error {
  override readonly name = "AnswerFault";
}

const HEAD_BYTES_MAX = 16 * 1_024;
const SIZE_LINE_BYTES_MAX = 16;
const EMPTY = Buffer.alloc(0);
const HEAD_END = "\r\n\r\n";
const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: |$)/;

type Stage = "head" | "sized" | "chunk-size" | "chunk" | "chunk-end" | "last-end";

export class HttpAnswerParser {
  readonly #events: AnswerEvents;
  #stage: Stage = "head";
  /** What was fed and is not yet a whole head or line. */
  #held: Buffer = EMPTY;
  /** Bytes that the body or the chunk still has. */
  #left = 0;

  constructor(events: AnswerEvents) {
    this.#events = events;
  }

  /** True between two answers. */
  get idle(): boolean {
    return this.#stage === "head" && this.#held.length === 0;
  }

  /** Keeps nothing of `piece` itself. @throws {AnswerFault} and is then of no more use */
  feed(piece: Buffer): void {
    let rest = this.#held.length === 0 ? piece : Buffer.concat([this.#held, piece]);
    this.#held = EMPTY;
    while (rest.length > 0) {
      const used = this.#step(rest);
      if (used === 0) {
        this.#held = Buffer.from(rest);
        return;
      }
      rest = rest.subarray(used);
    }
  }

  /** Takes what it can of `bytes` in one step; 0 when more has to come first. */
  #step(bytes: Buffer): number {
    switch (this.#stage) {
      case "head":
        return this.#takeHead(bytes);
      case "sized":
      case "chunk":
        return this.#takeBody(bytes);
      case "chunk-size":
        return this.#takeChunkSize(bytes);
      case "chunk-end":
        return this.#takeLineEnd(bytes, "chunk-size");
      case "last-end":
        return this.#takeLineEnd(bytes, "head");
    }
  }

  #takeHead(bytes: Buffer): number {
    const end = bytes.indexOf(HEAD_END);
    if (end === -1) {
      if (bytes.length > HEAD_BYTES_MAX) throw new AnswerFault("the head of an answer is too long");
      return 0;
    }
    const [statusLine, ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
    const match = STATUS_LINE.exec(statusLine as string);
    if (match === null) throw new AnswerFault("an answer does not begin with a status line");
    const status = Number(match[2]);
    if (status < 200) this.#events.onInterim(status);
    else this.#beginBody(status, match[1] === "1", lines);
    return end + HEAD_END.length;
  }

  #beginBody(status: number, isPersistent: boolean, lines: readonly string[]): void {
    let lengthText: string | null = null;
    let isChunked = false;
    let keepAlive = isPersistent;
    for (const line of lines) {
      const colon = line.indexOf(":");
      const name = line.slice(0, colon).toLowerCase();
      const value = line.slice(colon + 1).trim();
      if (name === "content-length") lengthText = value;
      else if (name === "transfer-encoding") isChunked = value.toLowerCase() === "chunked";
      else if (name === "connection" && value.toLowerCase() === "close") keepAlive = false;
    }
    if (!isChunked && (lengthText === null || !/^\d{1,15}$/.test(lengthText))) {
      throw new AnswerFault("an answer does not tell its length");
    }
    this.#left = isChunked ? 0 : Number(lengthText);
    this.#stage = isChunked ? "chunk-size" : "sized";
    this.#events.onHead(status, keepAlive);
    if (!isChunked && this.#left === 0) this.#end();
  }

  #takeBody(bytes: Buffer): number {
    const piece = bytes.length <= this.#left ? bytes : bytes.subarray(0, this.#left);
    this.#left -= piece.length;
    const isLast = this.#left === 0;
    const isChunk = this.#stage === "chunk";
    if (isLast && isChunk) this.#stage = "chunk-end";
    this.#events.onBody(piece);
    if (isLast && !isChunk) this.#end();
    return piece.length;
  }

  #takeChunkSize(bytes: Buffer): number {
    const end = bytes.indexOf("\r\n");
    if (end === -1 && bytes.length <= SIZE_LINE_BYTES_MAX) return 0;
    const text = bytes.toString("latin1", 0, Math.max(0, end));
    if (!/^[0-9a-fA-F]{1,12}$/.test(text)) throw new AnswerFault("the size of a chunk is not a number");
    this.#left = Number.parseInt(text, 16);
    this.#stage = this.#left === 0 ? "last-end" : "chunk";
    return end + 2;
  }

  #takeLineEnd(bytes: Buffer, next: "chunk-size" | "head"): number {
    if (bytes.length < 2) return 0;
    if (bytes[0] !== 13 || bytes[1] !== 10) throw new AnswerFault("a chunk does not end where it should");
    if (next === "head") this.#end();
    else this.#stage = next;
    return 2;
  }

  #end(): void {
    this.#stage = "head";
    this.#events.onEnd();
  }
}

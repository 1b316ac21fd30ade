/** A node's data plane spoken to byte by byte, with proofs that are right, for what no proper client sends. */
import { ClusterProof, sealHead, sessionName, type SessionKeys } from "../../src/blob/node-proof.ts";
import { FrameReader, FrameSealer, type Frame, type FrameKind } from "../../src/blob/wire-frame.ts";
import { PROOF_HEADER, WIRE_PATHS } from "../../src/blob/wire-messages.ts";
import type { NodeName } from "../../src/domain/ids.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { TEST_NODE } from "./blobs.ts";
import { TEST_SECRET } from "./node-plane.ts";
import { sendRaw, type RawAnswer } from "./raw-http.ts";

export function sayHello(url: string, hello: Uint8Array): Promise<RawAnswer> {
  return sendRaw(url, Buffer.concat([headOf(WIRE_PATHS.session, [`Content-Length: ${hello.length}`]), hello]));
}

/** Shakes hands as a client that knows the secret. */
export async function openRawSession(
  url: string,
  secret = TEST_SECRET,
  node: NodeName = TEST_NODE,
): Promise<RawSession> {
  const proof = new ClusterProof(secret);
  const hello = { clientNonce: systemRandom.bytes(32), node, macs: ["gmac" as const] };
  const sealed = proof.sealHello(hello);
  const answer = await sayHello(url, sealed);
  if (answer.status !== 200) throw new Error(`the handshake was answered with ${answer.status}`);
  const opened = proof.openHelloAnswer(sealed, Buffer.from(answer.body, "latin1"));
  if (opened === null) throw new Error("the node does not know the secret");
  return new RawSession(sessionName(opened.sessionId), proof.sessionKeys(hello, opened));
}

export class RawSession {
  readonly id: string;
  readonly keys: SessionKeys;
  #counter = 0;

  constructor(id: string, keys: SessionKeys) {
    this.id = id;
    this.keys = keys;
  }

  takeCounter(): number {
    return this.#counter++;
  }

  /** A whole request of one frame. */
  request(target: string, payload: Uint8Array, counter = this.takeCounter(), kind: FrameKind = "request"): Buffer {
    const head = new FrameSealer(this.keys.toNode, counter).seal(kind, Buffer.alloc(0), payload);
    return this.requestOf(target, Buffer.concat([head, payload]), counter);
  }

  /** A request with a proved head and whatever body. */
  requestOf(target: string, body: Uint8Array, counter = this.takeCounter()): Buffer {
    const proof = sealHead(this.keys, this.id, counter, target, body.length);
    const lines = [`${PROOF_HEADER}: ${proof}`, `Content-Length: ${body.length}`];
    return Buffer.concat([headOf(target, lines), body]);
  }

  /** The frames of a proved answer; throws when a tag is wrong. */
  framesOf(answer: RawAnswer, counter: number): Frame[] {
    const reader = new FrameReader(this.keys.toClient, counter);
    const body = Buffer.from(answer.body, "latin1");
    const frames: Frame[] = [];
    for (let at = 0; at < body.length;) {
      at = reader.push(body, at);
      if (reader.stage === "placing") reader.place(Buffer.alloc(reader.payloadBytes));
      else if (reader.stage === "complete") frames.push(reader.finish());
    }
    return frames;
  }
}

export function headOf(target: string, lines: readonly string[]): Buffer {
  return Buffer.from(
    ["POST", " ", target, " HTTP/1.1\r\nHost: n1\r\n", ...lines.map((line) => `${line}\r\n`), "\r\n"].join(""),
    "latin1",
  );
}

import { createSecretKey } from "node:crypto";
import type { NodeName } from "../domain/ids.ts";
import { BULK_MAC_KEY_BYTES, rankBulkMacs, type BulkMacName } from "../lib/bulk-mac.ts";
import type { Clock } from "../lib/clock.ts";
import type { HttpConnection } from "../lib/http-connection.ts";
import type { Random } from "../lib/random.ts";
import { nodeRefused, nodeUnreachable } from "./http-blob-errors.ts";
import { ClusterProof, NONCE_BYTES, sealHead, sessionName, type SessionKeys } from "./node-proof.ts";
import { FrameReader, FrameSealer } from "./wire-frame.ts";
import { WIRE_LIMITS } from "./wire-limits.ts";
import { PROOF_HEADER, WIRE_PATHS } from "./wire-messages.ts";

/** Far below what a counter or a key can take. */
const SESSION_REQUESTS_MAX = 2 ** 32;

/** What this runtime does fastest, found out once per process. */
let rankedMacs: readonly BulkMacName[] | null = null;

export function supportedMacs(clock: Clock, random: Random): readonly BulkMacName[] {
  rankedMacs ??= rankBulkMacs(clock, createSecretKey(random.bytes(BULK_MAC_KEY_BYTES)));
  return rankedMacs;
}

/** A body whose length nobody knows; the node says when it wants it. */
const STREAMED = "Transfer-Encoding: chunked\r\nExpect: 100-continue";

/** What makes the parts of one request and reads its answer. */
export type RequestSeal = {
  readonly sealer: FrameSealer;
  readonly reader: FrameReader;
  head(target: string, host: string, bodyBytes: number | null): Buffer;
};

/** One session with one node; gives every request a counter of its own. */
export class ClientSession {
  readonly #id: string;
  readonly #keys: SessionKeys;
  #nextCounter = 0;

  constructor(id: string, keys: SessionKeys) {
    this.#id = id;
    this.#keys = keys;
  }

  get usedUp(): boolean {
    return this.#nextCounter >= SESSION_REQUESTS_MAX;
  }

  /** Called when the request is about to be sent, so that counters arrive nearly in order. */
  begin(): RequestSeal {
    const counter = this.#nextCounter;
    this.#nextCounter += 1;
    return {
      sealer: new FrameSealer(this.#keys.toNode, counter),
      reader: new FrameReader(this.#keys.toClient, counter),
      head: (target, host, bodyBytes) => {
        const proof = sealHead(this.#keys, this.#id, counter, target, bodyBytes);
        const framing = bodyBytes === null ? STREAMED : `Content-Length: ${bodyBytes}`;
        return Buffer.from(
          `POST ${target} HTTP/1.1\r\nHost: ${host}\r\n${PROOF_HEADER}: ${proof}\r\n${framing}\r\n\r\n`,
          "latin1",
        );
      },
    };
  }
}

export type HandshakeParts = {
  readonly node: NodeName;
  readonly proof: ClusterProof;
  readonly clock: Clock;
  readonly random: Random;
};

/**
 * Shakes hands over `connection`.
 * @throws {StoreError} `node_refused` when either side does not know the other's secret, `node_unavailable`
 */
export async function shakeHands(
  parts: HandshakeParts,
  connection: HttpConnection,
  host: string,
): Promise<ClientSession> {
  const { node, proof, clock, random } = parts;
  const hello = { clientNonce: random.bytes(NONCE_BYTES), node, macs: supportedMacs(clock, random) };
  const sealed = proof.sealHello(hello);
  const head = `POST ${WIRE_PATHS.session} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${sealed.length}\r\n\r\n`;
  const { status, body } = await askPlainly(connection, Buffer.concat([Buffer.from(head, "latin1"), sealed]));
  if (status !== 200) throw refusalOf(node, status, body.toString());
  const answer = proof.openHelloAnswer(sealed, body);
  if (answer === null) throw nodeRefused(node, "it does not know this cluster's secret");
  return new ClientSession(sessionName(answer.sessionId), proof.sessionKeys(hello, answer));
}

/** What a refusal means. Its text is proved by nobody and is only told on. */
export function refusalOf(node: NodeName, status: number, text: string) {
  const reason = reasonIn(text);
  if (status >= 500 || status === 408) return nodeUnreachable(node, "be served", `it answered ${status}${reason}`);
  return nodeRefused(node, `it refused with status ${status}${reason}`);
}

function reasonIn(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === "string" ? `: ${message}` : "";
  } catch {
    return "";
  }
}

function askPlainly(connection: HttpConnection, request: Buffer): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    let status = 0;
    let bytes = 0;
    const pieces: Buffer[] = [];
    connection.begin({
      onHead: (code) => (status = code),
      onBody: (piece) => {
        bytes += piece.length;
        if (bytes > WIRE_LIMITS.refusalBytesMax) connection.destroy(new Error("the answer to a handshake is too long"));
        pieces.push(Buffer.from(piece));
      },
      onEnd: () => resolve({ status, body: Buffer.concat(pieces) }),
      onFailure: reject,
    });
    // A failed write shows as the failure of the request.
    connection.write([request]).catch(() => {});
  });
}

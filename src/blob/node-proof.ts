/**
 * How a node and its clients prove to each other, on every request, that they know the cluster's secret. No clock takes
 * part: machines may disagree about the time by hours.
 *
 * A handshake makes a session. The client sends a nonce and the name of the node it means, under an HMAC of the secret;
 * the node answers with a session id and a nonce of its own, under an HMAC over both messages. Whoever can make these
 * knows the secret, and an old handshake that is played again ends in keys that its player does not have. From secret,
 * nonces, session id, node name and algorithm HKDF makes a key for each direction.
 *
 * | sent | proved by | covers |
 * |---|---|---|
 * | head of a request | header `Kintsugi-Proof: 1 <session> <counter> <tag>` | method, target, length of the body |
 * | each frame of a request and of an answer | a tag inside it | its bytes, the request's counter, its place, the direction |
 *
 * Counters rise by one per request. A node takes each counter once, within a window, so that requests on several
 * connections may overtake each other but none can be played again. Answers are bound to the counter of their request.
 * A node that restarted has forgotten its sessions: it answers 401 before doing anything, and the client shakes hands anew.
 *
 * This keeps strangers out and bytes unchanged. It does not hide them: for that, run the cluster on a private network.
 */
import { createHmac, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import type { NodeName } from "../domain/ids.ts";
import { BULK_MAC_KEY_BYTES, BULK_MACS, BulkMac, equalTags, TAG_BYTES, type BulkMacName } from "../lib/bulk-mac.ts";
import { malformedMessage, WireReader, WireWriter } from "./wire-bytes.ts";

export const NONCE_BYTES = 32;
export const SESSION_ID_BYTES = 16;
const HMAC_BYTES = 32;
const VERSION = 1;
/** No frame has this index: heads and frames never share a nonce. */
const HEAD_INDEX = 0xffff_ffff;
const PROOF = /^1 ([\w-]{22}) (\d{1,15}) ([\w-]{22})$/;

export type Hello = {
  readonly clientNonce: Uint8Array;
  readonly node: NodeName;
  /** What the client can do, its favourite first. */
  readonly macs: readonly BulkMacName[];
};

export type HelloAnswer = {
  readonly sessionId: Uint8Array;
  readonly nodeNonce: Uint8Array;
  readonly mac: BulkMacName;
};

/** Both keys of a session: each side sends with one and receives with the other. */
export type SessionKeys = { readonly toNode: BulkMac; readonly toClient: BulkMac };

export type HeadProof = { readonly sessionId: string; readonly counter: number; readonly tag: Buffer };

/** What both sides make of the secret, once. */
export class ClusterProof {
  readonly #secret: KeyObject;
  readonly #helloKey: KeyObject;
  readonly #answerKey: KeyObject;

  constructor(clusterSecret: string) {
    this.#secret = createSecretKey(Buffer.from(clusterSecret));
    this.#helloKey = this.#derive(Buffer.alloc(0), "kintsugi node hello 1", HMAC_BYTES);
    this.#answerKey = this.#derive(Buffer.alloc(0), "kintsugi node hello answer 1", HMAC_BYTES);
  }

  /** Layout: version u8, client nonce, node text8, count u8 and numbers u8 of algorithms, HMAC of all before. */
  sealHello(hello: Hello): Buffer {
    const writer = new WireWriter(1 + NONCE_BYTES + 1 + hello.node.length + 1 + hello.macs.length + HMAC_BYTES);
    writer.u8(VERSION);
    writer.raw(hello.clientNonce);
    writer.text8(hello.node);
    writer.u8(hello.macs.length);
    for (const mac of hello.macs) writer.u8(BULK_MACS.indexOf(mac));
    writer.raw(hmac(this.#helloKey, [writer.bytes.subarray(0, writer.at)]));
    return writer.bytes;
  }

  /** Null when the sender does not know the secret. @throws {StoreError} `format_unknown` */
  openHello(bytes: Buffer): Hello | null {
    const reader = new WireReader(bytes);
    readVersion(reader);
    const clientNonce = reader.raw(NONCE_BYTES);
    const node = reader.text8() as NodeName;
    const macs = [...reader.raw(reader.u8())].flatMap((number) => BULK_MACS[number] ?? []);
    const proof = reader.raw(HMAC_BYTES);
    reader.end();
    const isProved = equalTags(proof, hmac(this.#helloKey, [bytes.subarray(0, bytes.length - HMAC_BYTES)]));
    return isProved ? { clientNonce, node, macs } : null;
  }

  /** Layout: version u8, session id, node nonce, algorithm u8, HMAC of the hello and all before. */
  sealHelloAnswer(hello: Buffer, answer: HelloAnswer): Buffer {
    const writer = new WireWriter(1 + SESSION_ID_BYTES + NONCE_BYTES + 1 + HMAC_BYTES);
    writer.u8(VERSION);
    writer.raw(answer.sessionId);
    writer.raw(answer.nodeNonce);
    writer.u8(BULK_MACS.indexOf(answer.mac));
    writer.raw(hmac(this.#answerKey, [hello, writer.bytes.subarray(0, writer.at)]));
    return writer.bytes;
  }

  /** Null when the sender does not know the secret. @throws {StoreError} `format_unknown` */
  openHelloAnswer(hello: Buffer, bytes: Buffer): HelloAnswer | null {
    const reader = new WireReader(bytes);
    readVersion(reader);
    const sessionId = reader.raw(SESSION_ID_BYTES);
    const nodeNonce = reader.raw(NONCE_BYTES);
    const mac = BULK_MACS[reader.u8()];
    const proof = reader.raw(HMAC_BYTES);
    reader.end();
    const isProved = equalTags(proof, hmac(this.#answerKey, [hello, bytes.subarray(0, bytes.length - HMAC_BYTES)]));
    return isProved && mac !== undefined ? { sessionId, nodeNonce, mac } : null;
  }

  sessionKeys(hello: Hello, answer: HelloAnswer): SessionKeys {
    const salt = Buffer.concat([hello.clientNonce, answer.nodeNonce]);
    const id = Buffer.from(answer.sessionId).toString("hex");
    const about = `kintsugi node session 1/${hello.node}/${answer.mac}/${id}`;
    const keyOf = (direction: string) => this.#derive(salt, `${about}/${direction}`, BULK_MAC_KEY_BYTES);
    return {
      toNode: new BulkMac(answer.mac, keyOf("to node")),
      toClient: new BulkMac(answer.mac, keyOf("to client")),
    };
  }

  #derive(salt: Uint8Array, about: string, bytes: number): KeyObject {
    return createSecretKey(Buffer.from(hkdfSync("sha256", this.#secret, salt, about, bytes)));
  }
}

/** Value of the proof header. `bodyBytes` is null for a body whose length nobody knows yet. */
export function sealHead(
  keys: SessionKeys,
  sessionId: string,
  counter: number,
  target: string,
  bodyBytes: number | null,
): string {
  return `1 ${sessionId} ${counter} ${headTag(keys, counter, target, bodyBytes).toString("base64url")}`;
}

/** Null when the header is none of this kind. */
export function parseHeadProof(value: string | string[] | undefined): HeadProof | null {
  const match = typeof value === "string" ? PROOF.exec(value) : null;
  if (match === null) return null;
  const tag = Buffer.from(match[3] as string, "base64url");
  return tag.length === TAG_BYTES ? { sessionId: match[1] as string, counter: Number(match[2]), tag } : null;
}

export function isHeadProved(keys: SessionKeys, proof: HeadProof, target: string, bodyBytes: number | null): boolean {
  if (proof.counter >= 2 ** 48) return false;
  return equalTags(proof.tag, headTag(keys, proof.counter, target, bodyBytes));
}

export function sessionName(sessionId: Uint8Array): string {
  return Buffer.from(sessionId).toString("base64url");
}

function headTag(keys: SessionKeys, counter: number, target: string, bodyBytes: number | null): Buffer {
  const claim = `POST ${target} ${bodyBytes === null ? "open" : bodyBytes}`;
  return keys.toNode.tag(counter, HEAD_INDEX, 0, Buffer.from(claim, "latin1"));
}

function readVersion(reader: WireReader): void {
  const version = reader.u8();
  if (version !== VERSION) throw malformedMessage(`its format is ${version}, this program knows ${VERSION}`);
}

function hmac(key: KeyObject, parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac("sha256", key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

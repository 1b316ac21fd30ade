/** Makes out what an answer to a read says about the key, byte for byte. */
import type { Answer } from "../../support/black-box/client.ts";
import type { Seeded } from "../../support/load/seeded.ts";
import type { State, Value } from "../checkers/register.ts";
import type { Answered, HistoryRecorder, Meaning } from "../history/recorder.ts";
import { contentOf, sha256Of, valueOfDocument, valueOfPlan } from "./content.ts";
import { noteOf } from "./gateway-request.ts";
import type { KeyKind, KeySpace } from "./keys.ts";

export type Range = { readonly start: number; readonly end: number };

export class ObjectReader {
  readonly #keys: KeySpace;
  readonly #recorder: HistoryRecorder;

  constructor(keys: KeySpace, recorder: HistoryRecorder) {
    this.#keys = keys;
    this.#recorder = recorder;
  }

  whole(key: string, kind: KeyKind, answer: Answer): Answered {
    return this.#understand(key, answer, () => {
      const value = kind === "document" ? this.#documentIn(answer) : this.#contentIn(key, answer);
      return { key, action: { kind: "read", value } };
    });
  }

  head(key: string, answer: Answer): Answered {
    return this.#understand(key, answer, () => {
      const etag = tagOf(answer) ?? "";
      const content = this.#keys.contentOf(key, etag);
      if (content !== undefined && answer.headers["content-length"] !== String(content.sizeBytes)) {
        this.#contradict(
          `HEAD of ${key}: ${answer.headers["content-length"]} bytes of ${content.name}'s ${content.sizeBytes}`,
        );
      }
      return { key, action: { kind: "read_tag", etag } };
    });
  }

  fields(key: string, answer: Answer): Answered {
    return this.#understand(key, answer, () => {
      return {
        key,
        action: { kind: "read_fields", fields: JSON.parse(answer.body.toString()) as Record<string, string> },
      };
    });
  }

  /** The tag says of what the range is; the bytes have to be of the same. */
  range(key: string, answer: Answer, { start, end }: Range): Answered {
    // Another version may be shorter.
    if (answer.status === 416) return { outcome: "failed", status: 416, meanings: [] };
    return this.#understand(key, answer, () => {
      const value = tagOf(answer) ?? "";
      const content = this.#keys.contentOf(key, value);
      if (content !== undefined) {
        const wanted = contentOf(content.name, content.sizeBytes).subarray(start, end);
        if (!wanted.equals(answer.body)) this.#contradict(`${key}: bytes ${start} to ${end} are not ${content.name}'s`);
      }
      return { key, action: { kind: "read", value } };
    });
  }

  /** Tells of each of these keys whether it is there, and in which version. */
  listing(keys: readonly string[], answer: Answer): Answered {
    const { status } = answer;
    if (status !== 200) return { outcome: "failed", status, meanings: [], note: noteOf(answer) };
    const page = JSON.parse(answer.body.toString()) as { objects: { key: string; etag: string }[] };
    const tags = new Map(page.objects.map(({ key, etag }) => [key, etag]));
    const meanings = keys.map((key): Meaning => {
      const etag = tags.get(key);
      return { key, action: etag === undefined ? { kind: "read", value: null } : { kind: "read_tag", etag } };
    });
    return { outcome: "ok", status, meanings };
  }

  /** A part of the value that was seen last, where there is one. */
  drawRange(random: Seeded, key: string, value: Value | undefined): Range | null {
    const content = value === undefined ? undefined : this.#keys.contentOf(key, value);
    if (content === undefined) return null;
    const start = random.between(0, content.sizeBytes - 1);
    return { start, end: random.between(start + 1, content.sizeBytes) };
  }

  #understand(key: string, answer: Answer, found: () => Meaning): Answered {
    const { status } = answer;
    const version = answer.headers["x-kintsugi-version"];
    const shown = { status, note: noteOf(answer), ...(typeof version === "string" ? { version } : {}) };
    if (status === 404) return { ...shown, outcome: "ok", meanings: [{ key, action: { kind: "read", value: null } }] };
    if (status === 200 || status === 206) return { ...shown, outcome: "ok", meanings: [found()] };
    if (status < 500) this.#contradict(`A read of ${key} was answered ${status}: ${noteOf(answer)}`);
    return { ...shown, outcome: "failed", meanings: [] };
  }

  #contentIn(key: string, { body, headers }: Answer): Value {
    const digest = sha256Of(body);
    if (headers["x-kintsugi-sha256"] !== digest) {
      this.#contradict(`${key}: the answer says ${String(headers["x-kintsugi-sha256"])} and has ${digest}`);
    }
    this.#recorder.learnTag(key, tagOf({ headers }) ?? "", digest);
    return digest;
  }

  #documentIn({ body, headers }: Answer): State {
    const digest = sha256Of(body);
    const stated = headers["x-kintsugi-sha256"];
    if (stated !== undefined && stated !== digest)
      this.#contradict(`The answer says ${String(stated)} and has ${digest}`);
    const value = valueOfDocument(body, (base) => this.#keys.documentOf(base));
    if (value === null) return `no document of ours, ${body.length} bytes ${digest}`;
    const base = value.slice(0, value.indexOf(";"));
    const plan = this.#keys.documentOf(base);
    // What nobody has patched comes back byte for byte.
    if (plan !== undefined && valueOfPlan(plan) === value && this.#keys.digestOfDocument(base) !== digest) {
      return `${base} in other bytes, ${digest}`;
    }
    return value;
  }

  #contradict(text: string): void {
    this.#recorder.contradictions.push(text);
  }
}

/** Without its quotes. */
export function tagOf({ headers }: Pick<Answer, "headers">): string | null {
  const { etag } = headers;
  return etag === undefined ? null : etag.slice(1, -1);
}

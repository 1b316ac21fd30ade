import { createHash, hash } from "node:crypto";
import { StoreError } from "../domain/errors.ts";
import { LIMITS } from "../limits.ts";
import type { ObjectDeps } from "./deps.ts";
import type { IncomingPut } from "./incoming-put.ts";
import { requireDigests } from "./incoming-put.ts";
import type { WriteOutcome } from "./write.ts";
import { finishWrite } from "./write.ts";

/** Tiny objects live in their record: one commit, no node. */
export async function putInline(deps: ObjectDeps, put: IncomingPut): Promise<WriteOutcome> {
  const head = await put.body.peek(LIMITS.inlineBytesMax + 1);
  if (head.bytes.length > LIMITS.inlineBytesMax) {
    throw new StoreError(
      "body_too_large",
      `The body has more than ${LIMITS.inlineBytesMax} bytes, too many for inline`,
      {
        details: { bytesMax: LIMITS.inlineBytesMax },
      },
    );
  }
  const bytes = head.bytes;
  const digests = digestsOf(bytes, put.request.expectedMd5 !== null);
  requireDigests(put.request, digests);
  return await finishWrite(deps, put.write, put.seen, {
    sizeBytes: bytes.length,
    etag: digests.sha256,
    sha256: digests.sha256,
    manifestOf: () => ({ strategy: "inline", bytes }),
    writers: [],
  });
}

/** Digests of bytes too few to be worth a trip to a thread. */
export function digestsOf(bytes: Uint8Array, wantMd5: boolean): { sha256: string; md5: string | null } {
  return {
    sha256: hash("sha256", bytes, "hex"),
    md5: wantMd5 ? createHash("md5").update(bytes).digest("hex") : null,
  };
}

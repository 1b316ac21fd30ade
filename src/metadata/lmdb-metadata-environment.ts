import { StoreError } from "../domain/errors.ts";
import type { LmdbEnvironment, LmdbEnvironmentOptions } from "../lib/lmdb-environment.ts";
import { LmdbFailure, openLmdbEnvironment } from "../lib/lmdb-environment.ts";

/**
 * Opens or creates the environment that the embedded metadata store and log share. The caller closes it, after them.
 * @throws {StoreError} `storage_error` the file is cut off or is none of LMDB's; it was not touched
 */
export async function openMetadataEnvironment(options: LmdbEnvironmentOptions): Promise<LmdbEnvironment> {
  try {
    return await openLmdbEnvironment(options);
  } catch (cause) {
    if (!(cause instanceof LmdbFailure)) throw cause;
    throw new StoreError("storage_error", cause.message, { cause, details: { reason: cause.reason } });
  }
}

/** What commands ask of a store, whichever door they reach it by: `rest-store.ts` and `nats-store.ts`. */
export type StoreClient = {
  put(key: string, body: UploadBody, options: PutDetails): Promise<ReceiptAnswer>;
  /** An object, a range of it, or some of its fields. To be read to its end or dropped with `break`. */
  get(key: string, options: GetDetails): Promise<DownloadAnswer>;
  /** Everything the store knows of an object. */
  describe(key: string, bucket: string | null): Promise<unknown>;
  list(options: ListQuery): Promise<ListAnswer>;
  remove(key: string, bucket: string | null): Promise<void>;
  /** Brings a deleted object back. */
  undelete(key: string, bucket: string | null): Promise<ReceiptAnswer>;
  patch(key: string, patch: Uint8Array, options: PatchDetails): Promise<ReceiptAnswer>;
  status(): Promise<{ readonly health: unknown; readonly stats: unknown }>;
  close(): Promise<void>;
};

/** A body that a transfer may have to start over, where `repeatable` says that it can. */
export type UploadBody = {
  /** Null: only its end tells. */
  readonly sizeBytes: number | null;
  readonly repeatable: boolean;
  open(): AsyncIterable<Uint8Array>;
};

export type PutDetails = {
  readonly bucket: string | null;
  readonly strategy: string | null;
  readonly consistency: string | null;
  readonly contentType: string;
  readonly userMetadata: Readonly<Record<string, string>>;
  /** Entity tags with or without quotes. */
  readonly ifMatch: string | null;
  readonly ifNoneMatch: string | null;
};

export type GetDetails = {
  readonly bucket: string | null;
  /** `first-last`, `first-` or `-suffix`, in bytes. */
  readonly range: string | null;
  readonly fields: readonly string[] | null;
};

export type DownloadAnswer = {
  /** Of what comes; null when that is not known before. */
  readonly sizeBytes: number | null;
  /** Lower-case hex of what comes; null where there is nothing to compare with. */
  readonly sha256: string | null;
  readonly chunks: AsyncIterable<Uint8Array>;
};

export type ListQuery = {
  readonly bucket: string | null;
  readonly prefix: string | null;
  readonly delimiter: string | null;
  readonly after: string | null;
  readonly limit: number;
};

export type ListAnswer = {
  readonly objects: readonly {
    readonly key: string;
    readonly sizeBytes: number;
    readonly strategy: string;
    readonly modifiedAt: string;
  }[];
  readonly commonPrefixes: readonly string[];
  /** Where the next page starts; null on the last one. */
  readonly next: string | null;
};

export type PatchDetails = {
  readonly bucket: string | null;
  readonly consistency: string | null;
  readonly ifMatch: string | null;
};

export type ReceiptAnswer = {
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly sha256: string | null;
  readonly strategy: string;
  readonly tolerance: number;
  readonly dirty: boolean;
  readonly nodeBytesWritten: number;
};

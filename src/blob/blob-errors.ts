import { StoreError } from "../domain/errors.ts";
import type { BlobId, NodeName } from "../domain/ids.ts";

/** The refusals every adapter words alike. */
export function blobNotFound(node: NodeName, id: BlobId): StoreError {
  return new StoreError("blob_not_found", `Cannot find blob ${id} on node ${node}`);
}

export function blobDamaged(id: BlobId, reason: string, cellIndex: number | null = null): StoreError {
  return new StoreError("blob_damaged", `Blob ${id} is damaged: ${reason}`, { details: { cellIndex } });
}

export function nodeFenced(node: NodeName, action: string, cause: unknown): StoreError {
  return new StoreError("node_fenced", `Cannot ${action} on node ${node}: it met a storage error and fenced itself`, {
    cause,
  });
}

export function nodeFull(node: NodeName, freeBytes: number, freeBytesMin: number): StoreError {
  return new StoreError(
    "node_full",
    `Cannot write on node ${node}: ${freeBytes} bytes are free, ${freeBytesMin} must stay free`,
    { retriable: true, details: { freeBytes, freeBytesMin } },
  );
}

export function nodeClosed(node: NodeName, action: string): StoreError {
  return new StoreError("node_unavailable", `Cannot ${action} on node ${node}: it is closed`, { retriable: true });
}

export function waitTooLong(node: NodeName, action: string): StoreError {
  return new StoreError(
    "deadline_exceeded",
    `Cannot tell whether node ${node} did ${action}: no answer before the deadline`,
    {
      retriable: true,
    },
  );
}

export function readGivenUp(node: NodeName, id: BlobId): StoreError {
  return new StoreError("deadline_exceeded", `Cannot read blob ${id} on node ${node}: nobody waits for it any more`, {
    retriable: true,
  });
}

export function writerConflict(node: NodeName, id: BlobId): StoreError {
  return new StoreError("write_conflict", `Cannot write blob ${id} on node ${node}: another writer is at it`, {
    retriable: true,
  });
}

export function blobBarred(node: NodeName, id: BlobId): StoreError {
  return new StoreError("write_conflict", `Cannot write blob ${id} on node ${node}: it was deleted before it came`);
}

export function writerAborted(node: NodeName, id: BlobId): StoreError {
  return new StoreError("node_unavailable", `Cannot go on with blob ${id} on node ${node}: its write was aborted`, {
    retriable: true,
  });
}

export function cellRefused(node: NodeName, id: BlobId, index: number): StoreError {
  return new StoreError(
    "write_conflict",
    `Cannot mend cell ${index} of blob ${id} on node ${node}: its seal vouches for other bytes`,
  );
}

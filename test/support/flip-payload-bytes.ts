import { readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";

/** Damages every page of a closed node's volumes that looks like content: bit rot that LMDB itself does not notice. */
export async function flipPayloadBytes(nodeDir: string): Promise<void> {
  const volumes = join(nodeDir, "volumes");
  for (const volume of readdirSync(volumes)) {
    for (const file of readdirSync(join(volumes, volume)).filter((name) => !name.includes("lock"))) {
      const handle = await open(join(volumes, volume, file), "r+");
      const page = Buffer.alloc(4_096);
      const emptyPage = Buffer.alloc(4_096);
      for (let at = 0; at < 64 * 1024 * 1024; at += 4_096) {
        const { bytesRead } = await handle.read(page, 0, 4_096, at);
        if (bytesRead === 0) break;
        if (page.equals(emptyPage)) continue;
        // Random-looking content differs from LMDB's own pages by having few zero bytes.
        if (page.filter((byte) => byte === 0).length > 64) continue;
        page[2_000] = (page[2_000] as number) ^ 1;
        await handle.write(page, 0, 4_096, at);
      }
      await handle.close();
    }
  }
}

/** Objects of every kind whose metadata a test takes away, and what is to be there again afterwards. */
import { createHash } from "node:crypto";
import { expect } from "vitest";
import { receiptOf, type StoreClient } from "./black-box/client.ts";
import { noise } from "./store.ts";

const KIB = 1_024;

/** What a client sees of everything that is there, and of what is not. */
export type Sight = {
  readonly keys: readonly string[];
  readonly objects: Readonly<Record<string, string>>;
};

/** Puts, patches, deletes and undeletes; keys are told apart by `round`. */
export async function writeObjects(client: StoreClient, round: string): Promise<void> {
  const put = async (key: string, body: Uint8Array | string, strategy: string) => {
    const headers = { "x-kintsugi-meta-round": round, "content-type": "application/x-test" };
    receiptOf(await client.put(`/objects/${round}/${key}?strategy=${strategy}`, Buffer.from(body), headers));
  };
  const patch = async (key: string, merge: string) =>
    receiptOf(
      await client.patch(`/objects/${round}/${key}`, merge, { "content-type": "application/merge-patch+json" }),
    );
  const remove = async (key: string) =>
    expect((await client.send("DELETE", `/objects/${round}/${key}`)).status).toBe(204);
  const document = (level: number) =>
    `{"device_id":"${round}", "battery_level": ${level}.0, "pad":"${noise(40 * KIB, level).toString("hex")}"}`;
  await put("inline", noise(700, 1), "inline");
  await put("copies", noise(30 * KIB, 2), "replication");
  await put("shards", noise(300 * KIB, 3), "ec");
  await put("large", noise(5_000 * KIB, 4), "ec");
  await put("document", document(5), "field_hybrid");
  await put("patched", document(6), "field_hybrid");
  await patch("patched", '{"battery_level": 66}');
  await put("patched-cold", document(7), "field_hybrid");
  await patch("patched-cold", '{"cold": {"a": 1}}');
  for (const strategy of ["inline", "replication", "ec"]) {
    const [old, now] = [noise(40 * KIB, 8), noise(41 * KIB, 9)];
    await put(`over-${strategy}`, old, strategy);
    await put(`over-${strategy}`, now, "auto");
    await put(`deleted-${strategy}`, old, strategy);
    await remove(`deleted-${strategy}`);
    await put(`back-${strategy}`, now, strategy);
    await remove(`back-${strategy}`);
    expect((await client.send("POST", `/objects/${round}/back-${strategy}?undelete`)).status).toBe(201);
    await put(`anew-${strategy}`, old, strategy);
    await remove(`anew-${strategy}`);
    await put(`anew-${strategy}`, now, "auto");
  }
}

export async function seeObjects(client: StoreClient): Promise<Sight> {
  const listed = JSON.parse((await client.get("/objects?limit=1000")).body.toString()) as {
    objects: readonly Record<string, unknown>[];
  };
  const objects: Record<string, string> = {};
  for (const entry of listed.objects) {
    const key = String(entry["key"]);
    const answer = await client.get(`/objects/${key}`);
    expect(answer.status, key).toBe(200);
    const {
      etag,
      "x-kintsugi-version": version,
      "x-kintsugi-meta-round": round,
      "content-type": type,
    } = answer.headers;
    const digest = createHash("sha256").update(answer.body).digest("hex");
    objects[key] = JSON.stringify([etag, version, round, type, answer.body.length, digest, entry["modifiedAt"]]);
  }
  return { keys: listed.objects.map((entry) => String(entry["key"])), objects };
}

import { mkdir, readdir, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { BlobId } from "../domain/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { createVolumeFile, isFileFault, LmdbVolume, volumeDataFile, volumePath } from "./lmdb-volume.ts";
import type { VolumeHooks, VolumeMode } from "./lmdb-volume.ts";
import type { Seal } from "./seal.ts";
import { parseSeal } from "./seal.ts";
import { readVolumeHeader } from "./volume-header.ts";
import { sealKey } from "./volume-keys.ts";

/**
 * The volumes of one node: opens what is sound, sets aside what is not, and decides where the next write goes.
 *
 * There is no index of blobs. Ids begin with the time of their write, so each volume covers a range of ids; a lookup
 * asks the volumes whose range covers the id, newest first.
 */
export type VolumeSetDeps = {
  readonly hooks: VolumeHooks;
  readonly logger: Logger;
  readonly volumeBytesMax: number;
};

export type FoundSeal = { readonly volume: LmdbVolume; readonly seal: Seal };

export type UnsoundVolume = { readonly name: string; readonly reason: string };

const VOLUME_PATTERN = /^\d{6,}$/;

export class VolumeSet {
  readonly #deps: VolumeSetDeps;
  readonly #volumesDir: string;
  readonly #quarantineDir: string;
  readonly #byNumber = new Map<number, LmdbVolume>();
  #newestFirst: LmdbVolume[] = [];
  #active: LmdbVolume | null = null;
  /** The one that is being emptied: nothing new comes into it. */
  #retiring: LmdbVolume | null = null;
  #numberMax = 0;
  #quarantinedCount = 0;
  #growing: Promise<void> | null = null;
  #dropping: Promise<void> = Promise.resolve();

  constructor(dir: string, deps: VolumeSetDeps) {
    this.#deps = deps;
    this.#volumesDir = join(dir, "volumes");
    this.#quarantineDir = join(dir, "quarantine");
  }

  get volumes(): readonly LmdbVolume[] {
    return this.#newestFirst;
  }

  get quarantinedCount(): number {
    return this.#quarantinedCount;
  }

  volumeOf(number: number): LmdbVolume | null {
    return this.#byNumber.get(number) ?? null;
  }

  async open(): Promise<void> {
    await mkdir(this.#volumesDir, { recursive: true });
    await mkdir(this.#quarantineDir, { recursive: true });
    const quarantined = await readdir(this.#quarantineDir);
    this.#quarantinedCount = quarantined.length;
    // A seal may name a volume that was set aside: its number must not come to mean another one.
    for (const name of quarantined) this.#numberMax = Math.max(this.#numberMax, Number.parseInt(name, 10) || 0);
    for (const name of (await readdir(this.#volumesDir)).sort()) {
      // Half-made or half-dropped volumes have names with a dot.
      if (name.startsWith(".")) await rm(join(this.#volumesDir, name), { recursive: true, force: true });
      else if (VOLUME_PATTERN.test(name)) await this.#openVolume(Number(name));
    }
    this.#active = this.#newestFirst.find((volume) => volume.admits(0)) ?? null;
    if (this.#active === null) await this.grow();
  }

  /** Opens what is sound and changes nothing. Answers which volumes are not, and why. */
  async openToRead(): Promise<UnsoundVolume[]> {
    const unsound: UnsoundVolume[] = [];
    for (const name of (await readdir(this.#volumesDir)).sort()) {
      if (!VOLUME_PATTERN.test(name)) continue;
      const header = await readVolumeHeader(volumeDataFile(volumePath(this.#volumesDir, Number(name))));
      if (header.verdict !== "sound") {
        unsound.push({ name, reason: header.reason });
        continue;
      }
      await this.#adopt(Number(name), header.mapBytes, "read-only").catch((cause: unknown) => {
        if (!isFileFault(cause)) throw cause;
        unsound.push({ name, reason: `LMDB cannot open it: ${String(cause)}` });
      });
    }
    const quarantined = await readdir(this.#quarantineDir).catch(() => []);
    this.#quarantinedCount = quarantined.length;
    return unsound;
  }

  /** The seal of a blob, as views that the next read overwrites; null when no volume holds it. @throws {StoreError} `blob_damaged` */
  find(id: BlobId): FoundSeal | null {
    let key: Buffer | null = null;
    for (const volume of this.#newestFirst) {
      if (!volume.mayHold(id)) continue;
      key ??= sealKey(id);
      const bytes = volume.get(key);
      if (bytes !== null) return { volume, seal: parseSeal(bytes, id) };
    }
    return null;
  }

  /** True when a seal of this id lies somewhere, readable or not. */
  holds(id: BlobId): boolean {
    for (const volume of this.#newestFirst) {
      if (volume.mayHold(id) && volume.get(sealKey(id)) !== null) return true;
    }
    return false;
  }

  /** The seal in one volume that holds it. @throws {StoreError} `blob_damaged` */
  sealIn(volume: LmdbVolume, id: BlobId): Seal | null {
    const bytes = volume.get(sealKey(id));
    return bytes === null ? null : parseSeal(bytes, id);
  }

  /** Volumes in which a seal of this id lies, readable or not. */
  holdersOf(id: BlobId): LmdbVolume[] {
    const key = sealKey(id);
    return this.#newestFirst.filter((volume) => volume.mayHold(id) && volume.get(key) !== null);
  }

  /** Where a value of this size may be written now; null when a volume has to be made first, see `grow`. */
  admit(valueBytes: number): LmdbVolume | null {
    if (this.#growing !== null || this.#active === null) return null;
    if (this.#active.admits(valueBytes)) return this.#active;
    const reusable = this.#reusable(valueBytes);
    if (reusable === undefined) return null;
    this.#active = reusable;
    return reusable;
  }

  /** Where a value of this size may be moved to: into the gaps of other volumes rather than to where a file has to grow. */
  admitMoved(valueBytes: number): LmdbVolume | null {
    return this.#reusable(valueBytes) ?? this.admit(valueBytes);
  }

  #reusable(valueBytes: number): LmdbVolume | undefined {
    const others = this.#newestFirst.filter((volume) => volume !== this.#active && volume !== this.#retiring);
    return others.find((volume) => volume.reopenForWrites(valueBytes));
  }

  /** From now on nothing new is written to this volume, if need be to a new one; false when somebody is at it. */
  async retire(volume: LmdbVolume): Promise<boolean> {
    if (volume === this.#active) await this.grow();
    if (!volume.isIdle || volume === this.#active || this.volumeOf(volume.number) !== volume) return false;
    this.#retiring = volume;
    return true;
  }

  /** The retired volume may be written to again, if it is still there. */
  readmit(): void {
    this.#retiring = null;
  }

  /** Makes a new volume, the one that writes go to next. Concurrent callers share one. */
  grow(): Promise<void> {
    this.#growing ??= this.#makeVolume().finally(() => {
      this.#growing = null;
    });
    return this.#growing;
  }

  /** Bytes that the volumes take on the disk. */
  async fileBytes(): Promise<number> {
    const sizes = await Promise.all(
      this.#newestFirst.map((volume) =>
        volume.fileBytes().catch((cause: unknown) => {
          if (this.#byNumber.has(volume.number)) throw cause;
          return 0; // dropped in the meantime
        }),
      ),
    );
    return sizes.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Gives the disk back what volumes without any blob take. */
  dropEmpty(): Promise<void> {
    this.#dropping = this.#dropping.then(() => this.#dropEmptyNow());
    return this.#dropping;
  }

  async #dropEmptyNow(): Promise<void> {
    for (const volume of [...this.#newestFirst]) {
      if (volume === this.#active || !volume.isEmpty()) continue;
      this.#byNumber.delete(volume.number);
      this.#newestFirst = this.#newestFirst.filter((other) => other !== volume);
      await volume.close();
      // Renamed first: a crash half way must not leave a folder that looks like a damaged volume.
      const doomed = join(this.#volumesDir, `.drop-${volume.number}`);
      await rename(volume.dir, doomed);
      await rm(doomed, { recursive: true, force: true });
      this.#deps.logger.info({ volume: volume.number }, "Dropped an empty volume");
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#growing, this.#dropping]);
    await Promise.all(this.#newestFirst.map((volume) => volume.close()));
  }

  async #makeVolume(): Promise<void> {
    const number = this.#numberMax + 1;
    this.#numberMax = number;
    await createVolumeFile(this.#volumesDir, number, this.#deps.volumeBytesMax);
    this.#active = await this.#adopt(number, this.#deps.volumeBytesMax);
  }

  async #openVolume(number: number): Promise<void> {
    this.#numberMax = Math.max(this.#numberMax, number);
    const header = await readVolumeHeader(volumeDataFile(volumePath(this.#volumesDir, number)));
    if (header.verdict === "sound") {
      if (header.fileBytes < header.mapBytes) await this.#extend(number, header.mapBytes);
      const failure = await this.#adopt(number, header.mapBytes).then(
        () => null,
        (cause: unknown) => cause,
      );
      if (failure === null) return;
      if (!isFileFault(failure)) throw failure;
      await this.#setAside(number, `LMDB cannot open it: ${String(failure)}`);
    } else {
      await this.#setAside(number, header.reason);
    }
  }

  async #extend(number: number, bytes: number): Promise<void> {
    await truncate(volumeDataFile(volumePath(this.#volumesDir, number)), bytes);
    this.#deps.logger.warn({ volume: number, bytes }, "Extended a volume that had lost unused space at its end");
  }

  async #adopt(number: number, boundBytes: number, mode: VolumeMode = "read-write"): Promise<LmdbVolume> {
    const path = volumePath(this.#volumesDir, number);
    const volume = await LmdbVolume.open(path, number, boundBytes, this.#deps.hooks, mode);
    this.#byNumber.set(number, volume);
    this.#newestFirst = [...this.#byNumber.values()].sort((a, b) => b.number - a.number);
    return volume;
  }

  async #setAside(number: number, reason: string): Promise<void> {
    const name = `${String(number).padStart(6, "0")}-${this.#deps.hooks.clock.wallMs()}`;
    await rename(volumePath(this.#volumesDir, number), join(this.#quarantineDir, name));
    this.#quarantinedCount += 1;
    this.#deps.logger.warn(
      { volume: number, reason, quarantine: name },
      "Set a volume aside: it is unreadable and its blobs have to be healed",
    );
  }
}

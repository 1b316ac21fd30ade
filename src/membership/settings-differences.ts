/** Compares the settings of two processes. Pure. */

export type SettingsDifference = {
  /** Such as `bucketDefaults.k`. */
  readonly path: string;
  /** As text to show. */
  readonly stored: string;
  readonly here: string;
};

/** Every place where the two differ, in order of the paths. The order of lists means nothing; nor does that of members. */
export function listDifferences(stored: unknown, here: unknown, path = ""): SettingsDifference[] {
  if (isTree(stored) && isTree(here)) {
    const names = [...new Set([...Object.keys(stored), ...Object.keys(here)])].sort();
    return names.flatMap((name) => listDifferences(stored[name], here[name], path === "" ? name : `${path}.${name}`));
  }
  if (Array.isArray(stored) && Array.isArray(here)) return compareLists(stored, here, path);
  return stored === here ? [] : [{ path, stored: show(stored), here: show(here) }];
}

/** Lists are long and mostly equal: only what one has and the other lacks is shown. */
function compareLists(stored: readonly unknown[], here: readonly unknown[], path: string): SettingsDifference[] {
  const onlyStored = stored.filter((item) => !here.includes(item));
  const onlyHere = here.filter((item) => !stored.includes(item));
  if (onlyStored.length === 0 && onlyHere.length === 0) return [];
  const showOnly = (items: readonly unknown[]) =>
    items.length === 0 ? "nothing more" : `also ${items.map(show).join(", ")}`;
  return [{ path, stored: showOnly(onlyStored), here: showOnly(onlyHere) }];
}

function isTree(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}

/**
 * How long a group commit rests between its rounds. A round costs about the same with one member as with many, so under
 * load fewer and fuller ones leave more of the machine to the work itself. The rest follows the last round: short where
 * rounds are quick, longer where a busy machine makes them slow, which is where fewer of them help most.
 */
const REST_SHARE = 1;
const REST_MS_MAX = 20;

/** In ms. A lone member had no company that would have come by waiting, so nobody waits for any after it. */
export function restAfter(round: { readonly memberCount: number; readonly tookMs: number }): number {
  return round.memberCount > 1 ? Math.min(round.tookMs * REST_SHARE, REST_MS_MAX) : 0;
}

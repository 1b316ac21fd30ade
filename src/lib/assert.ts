/** A bug in this program, never a fault of input or hardware: the process that meets one stops. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** States an invariant. Stays on in production; `claim` says what holds, in the present tense. */
export function assert(condition: unknown, claim: string): asserts condition {
  if (!condition) throw new AssertionError(`Broken invariant: ${claim}`);
}

/** Marks a branch that types prove unreachable. */
export function unreachable(value: never): never {
  throw new AssertionError(`Unreachable value: ${JSON.stringify(value)}`);
}

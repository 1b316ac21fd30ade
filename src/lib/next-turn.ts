/** Lets everything else that is ready run first. Long loops call it between bounded pieces of work. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

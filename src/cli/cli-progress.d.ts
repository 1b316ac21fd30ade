// The part of cli-progress that `progress.ts` and `work-progress.ts` use; the package brings no types of its own.
declare module "cli-progress" {
  type BarOptions = {
    readonly format: string;
    readonly stream: NodeJS.WritableStream;
    readonly clearOnComplete: boolean;
    readonly hideCursor: boolean;
    readonly barsize: number;
    readonly barCompleteChar: string;
    readonly barIncompleteChar: string;
    readonly formatValue: (value: number, options: unknown, type: string) => string;
  };
  class SingleBar {
    constructor(options: BarOptions);
    start(total: number, startValue: number, payload: Readonly<Record<string, string>>): void;
    update(value: number, payload: Readonly<Record<string, string>>): void;
    setTotal(total: number): void;
    stop(): void;
  }
  const progress: { readonly SingleBar: typeof SingleBar };
  export default progress;
}

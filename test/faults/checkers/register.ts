/**
 * What one key of the store is to its clients: a register that is absent or holds one value, and the operations that
 * can be done to it. Every put and every patch of a history brings a value of its own, so a value says who wrote it.
 *
 * A document's value also tells the fields that patches change: `base;name=content;…`, its names in order.
 */
export type Value = string;
/** Null: absent. */
export type State = Value | null;

export type Condition = { readonly kind: "holds"; readonly value: Value } | { readonly kind: "absent" };

export type Fields = Readonly<Record<string, string>>;

export type Action =
  /** Also a listing that showed the key or did not, a delete or a patch that found nothing. */
  | { readonly kind: "read"; readonly value: State }
  /** A projection: these fields of a document. */
  | { readonly kind: "read_fields"; readonly fields: Fields }
  /** A conditional write that was refused: its condition did not hold. */
  | { readonly kind: "refused"; readonly condition: Condition }
  | { readonly kind: "put"; readonly value: Value; readonly condition: Condition | null }
  | { readonly kind: "patch"; readonly fields: Fields; readonly condition: Condition | null }
  | { readonly kind: "delete"; readonly condition: Condition | null }
  /** Brings back what the last delete took. Succeeds only on a key that is absent. */
  | { readonly kind: "undelete"; readonly value: Value };

export type Operation = {
  readonly id: number;
  readonly startMs: number;
  /** Infinity: nobody knows whether it has happened, or will. */
  readonly endMs: number;
  readonly action: Action;
};

export type Verdict =
  | { readonly ok: true }
  /** `operations`: those that contradict each other, as far as the checker can tell. */
  | { readonly ok: false; readonly reason: string; readonly operations: readonly Operation[] };

/** The state behind the operation, or undefined where it cannot have gone as it did. */
export function stateAfter(state: State, action: Action): State | undefined {
  switch (action.kind) {
    case "read":
      return state === action.value ? state : undefined;
    case "read_fields":
      return state !== null && hasFields(state, action.fields) ? state : undefined;
    case "refused":
      return holds(action.condition, state) ? undefined : state;
    case "put":
      return action.condition === null || holds(action.condition, state) ? action.value : undefined;
    case "patch":
      if (state === null || (action.condition !== null && !holds(action.condition, state))) return undefined;
      return patchValue(state, action.fields);
    case "delete":
      if (state === null || (action.condition !== null && !holds(action.condition, state))) return undefined;
      return null;
    case "undelete":
      return state === null ? action.value : undefined;
  }
}

/** Whether it changes nothing, so that it may as well be taken as early as it fits. */
export function isRead({ kind }: Action): boolean {
  return kind === "read" || kind === "read_fields" || kind === "refused";
}

export function documentValue(base: string, fields: Fields): Value {
  const parts = Object.keys(fields)
    .toSorted()
    .map((name) => `${name}=${fields[name] as string}`);
  return [base, ...parts].join(";");
}

export function patchValue(value: Value, fields: Fields): Value {
  const { base, fields: before } = splitValue(value);
  return documentValue(base, { ...before, ...fields });
}

function splitValue(value: Value): { base: string; fields: Fields } {
  const [base = "", ...parts] = value.split(";");
  return { base, fields: Object.fromEntries(parts.map((part) => part.split("=") as [string, string])) };
}

function hasFields(value: Value, fields: Fields): boolean {
  const has = splitValue(value).fields;
  return Object.entries(fields).every(([name, content]) => has[name] === content);
}

function holds(condition: Condition, state: State): boolean {
  return condition.kind === "absent" ? state === null : state === condition.value;
}

export function describeAction(action: Action): string {
  const on = "condition" in action && action.condition !== null ? ` ${describeCondition(action.condition)}` : "";
  switch (action.kind) {
    case "read":
      return `read ${action.value ?? "absent"}`;
    case "read_fields":
      return `read of ${Object.entries(action.fields)
        .map((pair) => pair.join("="))
        .join(", ")}`;
    case "refused":
      return `write refused${on}`;
    case "put":
      return `put ${action.value}${on}`;
    case "patch":
      return `patch ${documentValue("", action.fields)}${on}`;
    case "delete":
      return `delete${on}`;
    case "undelete":
      return `undelete of ${action.value}`;
  }
}

function describeCondition(condition: Condition): string {
  return condition.kind === "absent" ? "if absent" : `if ${condition.value}`;
}

export function describeOperation({ id, startMs, endMs, action }: Operation): string {
  const end = endMs === Number.POSITIVE_INFINITY ? "never answered" : endMs.toFixed(3);
  return `#${id} [${startMs.toFixed(3)} … ${end}] ${describeAction(action)}`;
}

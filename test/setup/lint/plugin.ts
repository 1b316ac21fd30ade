/**
 * The rules of this project that no ready-made lint rule expresses, as one plugin. Paths are taken relative to where
 * the linter was started, which is the top of the checkout.
 */
import { basename, dirname, join, relative } from "node:path/posix";
import { EMPTY_NAMES, MAY_IMPORT, NONDETERMINISM_HOMES, PACKAGE_HOMES, partOf } from "./layers.ts";

type Node = { readonly type: string };
type Named = Node & { readonly name: string };
type Imports = Node & { readonly source: (Node & { readonly value?: unknown }) | null };
type Call = Node & { readonly callee: Node; readonly arguments: readonly Node[] };
type Member = Node & { readonly object: Node; readonly property: Node; readonly computed: boolean };
type Context = { filename: string; cwd: string; report(problem: { node: Node; message: string }): void };

function pathOf(context: Context): string {
  return relative(context.cwd, context.filename);
}

/** Calls `check` with every module specifier, of static and dynamic imports and of re-exports. */
function forEachImport(check: (node: Imports, specifier: string) => void) {
  const visit = (node: Imports) => {
    if (typeof node.source?.value === "string") check(node, node.source.value);
  };
  return {
    ImportDeclaration: visit,
    ImportExpression: visit,
    ExportNamedDeclaration: visit,
    ExportAllDeclaration: visit,
  };
}

const layers = {
  create(context: Context) {
    const path = pathOf(context);
    const part = partOf(path);
    if (part === null) return {};
    const allowed = MAY_IMPORT[part];
    return {
      Program(node: Node) {
        if (allowed) return;
        context.report({ node, message: `"${part}" has no place in test/setup/lint/layers.ts: give it one` });
      },
      ...forEachImport((node, specifier) => {
        if (!specifier.startsWith(".")) return;
        const target = join(dirname(path), specifier);
        const targetPart = partOf(target);
        if (targetPart === part || (targetPart !== null && allowed?.includes(targetPart))) return;
        context.report({ node, message: `${part} may not import ${targetPart ?? target}: imports point one way` });
      }),
    };
  },
};

const packageHomes = {
  create(context: Context) {
    const path = pathOf(context);
    return forEachImport((node, specifier) => {
      const rule = PACKAGE_HOMES.find((entry) => entry.packages.test(specifier));
      if (!rule || rule.files.test(path)) return;
      context.report({ node, message: `"${specifier}" may only be imported in ${rule.home}` });
    });
  },
};

const explicitExtensions = {
  create(context: Context) {
    return forEachImport((node, specifier) => {
      if (!specifier.startsWith(".") || /\.(?:ts|json)$/.test(specifier)) return;
      context.report({ node, message: `"${specifier}" must name the file with its .ts extension` });
    });
  },
};

const noBarrels = {
  create(context: Context) {
    const report = (node: Imports) => {
      if (node.source) context.report({ node, message: "Import a name from the file that defines it: no re-exports" });
    };
    return {
      Program(node: Node) {
        if (basename(context.filename) !== "index.ts") return;
        context.report({ node, message: "Name the file after what it holds: no index.ts" });
      },
      ExportNamedDeclaration: report,
      ExportAllDeclaration: report,
    };
  },
};

const tellingNames = {
  create(context: Context) {
    const path = pathOf(context);
    return {
      Program(node: Node) {
        const empty = EMPTY_NAMES.exec(path);
        if (empty)
          context.report({ node, message: `"${path}" says nothing about what is inside: name it by its noun` });
      },
    };
  },
};

type Source = keyof typeof NONDETERMINISM_HOMES;
const FORBIDDEN_MEMBERS: Readonly<Record<string, Source>> = {
  "Date.now": "time",
  "AbortSignal.timeout": "time",
  "Math.random": "randomness",
  "crypto.randomUUID": "randomness",
  "crypto.getRandomValues": "randomness",
  "process.env": "environment",
  "Deno.env": "environment",
  "Bun.env": "environment",
};
const FORBIDDEN_CALLS = new Set(["setTimeout", "setInterval"]);
const FORBIDDEN_MODULES = /^(?:node:)?timers(?:\/promises)?$/;
const REMEDIES: Readonly<Record<Source, string>> = {
  time: "take a Clock (lib/clock.ts)",
  randomness: "take a Random (lib/random.ts)",
  environment: "take it from the Config (config.ts)",
};

const noNondeterminism = {
  create(context: Context) {
    const path = pathOf(context);
    const report = (node: Node, what: string, source: Source) => {
      if (NONDETERMINISM_HOMES[source].test(path)) return;
      context.report({ node, message: `${what} is not reached directly: ${REMEDIES[source]}` });
    };
    return {
      NewExpression(node: Call) {
        if (nameOf(node.callee) === "Date" && node.arguments.length === 0) report(node, "new Date()", "time");
      },
      CallExpression(node: Call) {
        const name = nameOf(node.callee);
        if (name !== null && FORBIDDEN_CALLS.has(name)) report(node, name, "time");
        if (name === "Date") report(node, "Date()", "time");
      },
      MemberExpression(node: Member) {
        const name = `${nameOf(node.object)}.${propertyOf(node)}`;
        const source = FORBIDDEN_MEMBERS[name];
        if (source) report(node, name, source);
      },
      ...forEachImport((node, specifier) => {
        if (FORBIDDEN_MODULES.test(specifier)) report(node, specifier, "time");
      }),
    };
  },
};

/** The name an expression goes by, also behind `globalThis.`; null when it is no plain name. */
function nameOf(node: Node): string | null {
  if (node.type === "Identifier") return (node as Named).name;
  if (node.type !== "MemberExpression") return null;
  const member = node as Member;
  return nameOf(member.object) === "globalThis" ? propertyOf(member) : null;
}

function propertyOf(node: Member): string | null {
  if (!node.computed) return (node.property as Named).name;
  const { value } = node.property as Node & { readonly value?: unknown };
  return typeof value === "string" ? value : null;
}

export default {
  meta: { name: "kintsugi" },
  rules: {
    layers,
    "package-homes": packageHomes,
    "explicit-extensions": explicitExtensions,
    "no-barrels": noBarrels,
    "telling-names": tellingNames,
    "no-nondeterminism": noNondeterminism,
  },
};

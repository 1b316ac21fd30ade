#!/usr/bin/env node
// The installed command. Plain JavaScript on purpose: an older Node cannot even begin to read TypeScript, and should say
// so in words. Bun and Deno report a Node version of their own that is always new enough.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `kintsugi needs Node 22.18 or newer, and this is ${process.versions.node}. ` +
      "`npm install` brings Node 24 along: in the project use `npx kintsugi ...` or `npm start`.",
  );
  process.exit(2);
}
await import("../src/main.ts");

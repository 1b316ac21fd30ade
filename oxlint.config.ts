/** What `npm run ok` demands of the sources. The layers themselves are a table in test/setup/lint/layers.ts. */
const PRODUCT = ["src/**/*.ts", "workers/**/*.ts"];

export default {
  // An absolute path, so that the test which proves that these rules bite can apply them to files elsewhere.
  jsPlugins: [new URL("test/setup/lint/plugin.ts", import.meta.url).pathname],
  plugins: ["eslint", "typescript", "unicorn", "oxc", "import", "promise", "vitest"],
  categories: { correctness: "error" },
  ignorePatterns: ["**/node_modules/**", "data/**", ".cache/**"],
  rules: {
    "kintsugi/explicit-extensions": "error",
    "kintsugi/telling-names": "error",
    "typescript/no-explicit-any": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "eslint/eqeqeq": ["error", "always", { null: "ignore" }],
    "eslint/no-var": "error",
    "eslint/prefer-const": "error",
    "eslint/max-lines": ["error", { max: 500 }],
    "import/no-default-export": "error",
    "vitest/no-focused-tests": "error",
    "eslint/no-unused-vars": [
      "error",
      { varsIgnorePattern: "^_", argsIgnorePattern: "^_", destructuredArrayIgnorePattern: "^_" },
    ],
    // Contract suites are functions that define tests, and conditions in them say which adapter promises what. An
    // expectation may be begun before the step that fulfils it: one that is never awaited is a floating promise.
    "vitest/valid-expect": "off",
    "vitest/require-to-throw-message": "off",
    "vitest/expect-expect": "off",
    "vitest/no-conditional-expect": "off",
    "vitest/no-standalone-expect": "off",
    "vitest/valid-title": "off",
    // Copying a readonly array for a library that wants a mutable one is no useless spread.
    "unicorn/no-useless-spread": "off",
    "unicorn/no-new-array": "off",
    "typescript/unbound-method": "off",
    "typescript/await-thenable": "off",
    "typescript/no-base-to-string": "off",
    "typescript/require-array-sort-compare": "off",
    "typescript/restrict-template-expressions": "off",
  },
  overrides: [
    {
      files: PRODUCT,
      rules: {
        "kintsugi/layers": "error",
        "kintsugi/package-homes": "error",
        "kintsugi/no-barrels": "error",
        "kintsugi/no-nondeterminism": "error",
        "eslint/max-lines-per-function": ["error", { max: 70 }],
        "eslint/no-console": "error",
      },
    },
    { files: ["src/cli/**/*.ts"], rules: { "eslint/no-console": "off" } },
    {
      // Thread pools, test runners and the linter itself look for a default export.
      files: [
        "workers/**/*.ts",
        "*.config.ts",
        "test/*.config.ts",
        "test/setup/lint/plugin.ts",
        "test/setup/*reporter.ts",
      ],
      rules: { "import/no-default-export": "off" },
    },
  ],
};

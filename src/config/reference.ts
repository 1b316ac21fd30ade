import { environmentName } from "../config.ts";
import { listSettings } from "./schema.ts";

/** Every setting as a Markdown table: the reference of `docs/configuration.md`, which a test compares with this. */
export function settingsReference(): string {
  const rows = listSettings().map(({ path, shownDefault, allowed, description }) => [
    `\`${path.join(".")}\`<br>\`${environmentName(path)}\``,
    shownDefault.length > 40 ? shownDefault : `\`${shownDefault}\``,
    `${description}.<br>*${upperFirst(allowed)}.*`,
  ]);
  const header = ["setting and variable", "default", "meaning and values"];
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.map(cell).join(" | ")} |`).join("\n");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

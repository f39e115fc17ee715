// What has become of the rules that the report was made with.

import { h, section, plural } from "./dom.js";
import { makeTable } from "./table.js";

const OPTIONS = { fail_under: "--fail-under", max: "--max" };

export function rules(found) {
  const failed = found.filter((one) => !one.passed).length;
  const rows = [...found].sort((a, b) => a.passed - b.passed);
  const table = makeTable("Rules, the failed ones first", [
    { title: "Result", class: "nowrap", cell: (one) => h("span", { class: one.passed ? "verdict" : "verdict failed" }, h("span", { "aria-hidden": "true" }, one.passed ? "✓ " : "✗ "), one.passed ? "passed" : "failed") },
    { title: "Rule", cell: (one) => [one.line.replace(/^(passed|failed): /, ""), " ", h("small", {}, h("code", {}, `${OPTIONS[one.kind]} ${one.name}=${one.given}`))] },
  ], rows);
  return section("rules", "Rules",
    h("p", { class: failed ? "verdict failed" : "verdict" }, failed ? `${failed} of ${plural(found.length, "rule")} failed.` : found.length === 1 ? "The rule passed." : `All ${plural(found.length, "rule")} passed.`),
    table.element);
}

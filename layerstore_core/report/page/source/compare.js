// What differs between two images.

import { h, section, bytes, signed, count, plural, choice } from "./dom.js";
import { changeOf, grownBy } from "./tree.js";
import { makeTable, reveal } from "./table.js";
import { cards, valueOf, CHANGES } from "./image.js";

const COMPLETE = "layerstore report --json has all.";

export function comparison(data) {
  const { before, image: after, comparison: found, left_out: leftOut } = data;
  const delta = (name, key, form, difference) => {
    const grown = after[key] - before[key];
    return [name, difference(grown), `${form(before[key])} → ${form(after[key])}`, form !== bytes ? "" : grown > 0 ? "up" : grown < 0 ? "down" : ""];
  };
  const more = (number) => (number > 0 ? `+${count(number)}` : number < 0 ? `−${count(-number)}` : "±0");
  const files = found.files.map((one) => Object.assign(one, { change: changeOf(one), grown: grownBy(one) }));
  files.sort((a, b) => Math.abs(b.grown) - Math.abs(a.grown));
  const kinds = Object.keys(CHANGES).filter((kind) => files.some((one) => one.change === kind));
  const number = (kind) => files.filter((one) => one.change === kind).length;
  const table = makeTable("Files that differ", [
    { title: "Path", value: (one) => one.path, class: "wide", cell: (one) => h("code", {}, one.path, one.directory ? "/" : "") },
    { title: "What", value: (one) => one.change, class: "nowrap", cell: (one) => h("span", { class: "entry" }, h("span", { class: `dot change ${one.change}`, "aria-hidden": "true" }), CHANGES[one.change]) },
    { title: "Before", number: true, value: (one) => one.before ?? -1, cell: (one) => (one.before === null ? "" : bytes(one.before)) },
    { title: "After", number: true, value: (one) => one.after ?? -1, cell: (one) => (one.after === null ? "" : bytes(one.after)) },
    { title: "Change", number: true, value: (one) => one.grown, cell: (one) => h("strong", {}, one.grown ? signed(one.grown) : "") },
  ], files.filter((one) => one.change !== "metadata"), { first: 20, leftOut: leftOut["comparison.files"], where: COMPLETE });
  const filter = choice("Files that", [["all", "All but metadata"], ...kinds.map((kind) => [kind, `${CHANGES[kind]} (${count(number(kind))})`])], "all",
    (kind) => table.set(files.filter((one) => (kind === "all" ? one.change !== "metadata" : one.change === kind))));
  const packages = makeTable("Packages that differ", [
    { title: "Package", value: (one) => one.name, cell: (one) => one.name },
    { title: "What", value: (one) => one.kind, cell: (one) => h("span", { class: "entry" }, h("span", { class: `dot change ${{ added: "came", deleted: "went", changed: "grew" }[one.kind]}`, "aria-hidden": "true" }), { added: "came", deleted: "went", changed: "changed" }[one.kind]) },
    { title: "Before", cell: (one) => h("code", {}, one.before.join(", ")) },
    { title: "After", cell: (one) => h("code", {}, one.after.join(", ")) },
    { title: "Change", number: true, value: (one) => one.grown, cell: (one) => (one.grown ? signed(one.grown) : "") },
  ], found.packages.slice().sort((a, b) => Math.abs(b.grown) - Math.abs(a.grown)), { leftOut: leftOut["comparison.packages"], where: COMPLETE });
  const settings = makeTable("Settings that differ", [
    { title: "Setting", cell: (one) => one.setting },
    { title: "Before", class: "wide", cell: (one) => valueOf(one.before) },
    { title: "After", class: "wide", cell: (one) => valueOf(one.after) },
  ], found.config, { leftOut: leftOut["comparison.config"], where: COMPLETE });
  return section("comparison", "What changed",
    cards([
      delta("Size", "visible", bytes, signed), delta("Wasted", "wasted", bytes, signed), delta("Files", "entries", count, more),
      delta("Packages", "package_count", count, more),
      ["Layers in common", `${found.shared_layers} of ${after.layer_count}`, `${before.layer_count} → ${plural(after.layer_count, "layer")}`],
    ]),
    h("h3", {}, "By directory"), directories(files),
    h("h3", {}, "Files"), kinds.length ? [filter, table.element] : h("p", { class: "none" }, "No file differs."),
    found.packages.length > 0 && [h("h3", {}, "Packages"), packages.element],
    found.config.length > 0 && [h("h3", {}, "Settings"), settings.element]);
}

/** What search can find of a comparison: what the second image does not have. */
export function changed(found) {
  const gone = found.files.filter((one) => one.kind === "deleted");
  const packages = found.packages.filter((one) => one.kind === "deleted");
  return [
    ...gone.map((one) => ({ group: "went", text: one.path, detail: bytes(one.before || 0), weight: one.before || 0, go: () => reveal(one) })),
    ...packages.map((one) => ({ group: "went", text: one.name, detail: one.before.join(", "), weight: 1e12, go: () => reveal(one) })),
  ];
}

/** Bars to the right for directories that grew, and to the left for those that shrank. */
function directories(files) {
  const sums = new Map();
  for (const one of files) {
    const words = one.path.split("/").slice(1, -1);
    const name = `/${(one.directory ? one.path.split("/").slice(1) : words).slice(0, 3).join("/")}`;
    const sum = sums.get(name) || { came: 0, went: 0 };
    if (one.grown > 0) sum.came += one.grown;
    else sum.went -= one.grown;
    sums.set(name, sum);
  }
  const rows = [...sums].map(([name, sum]) => ({ name, ...sum, grown: sum.came - sum.went }))
    .filter((one) => one.came || one.went).sort((a, b) => Math.max(b.came, b.went) - Math.max(a.came, a.went)).slice(0, 12);
  if (!rows.length) return h("p", { class: "none" }, "No size differs.");
  const most = Math.max(...rows.map((one) => Math.max(one.came, one.went)));
  return h("table", { class: "diverging" }, h("caption", { class: "visually-hidden" }, "Bytes that went and came, by directory"),
    h("thead", { class: "visually-hidden" }, h("tr", {}, ["Directory", "Went", "Came", "Change"].map((one) => h("th", { scope: "col" }, one)))),
    h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, one.name)),
      h("td", { class: "minus" }, h("span", { class: "beam", css: { "--part": String(one.went / most) } }), h("span", { class: "visually-hidden" }, bytes(one.went))),
      h("td", { class: "plus" }, h("span", { class: "beam", css: { "--part": String(one.came / most) } }), h("span", { class: "visually-hidden" }, bytes(one.came))),
      h("td", { class: "number" }, signed(one.grown))))));
}

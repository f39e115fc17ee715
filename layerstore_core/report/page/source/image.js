// The sections of one image.

import { h, section, bytes, signed, count, percent, plural, time, choice, jump } from "./dom.js";
import { decode, byLayer, byChange, pathOf } from "./tree.js";
import { makeTreemap } from "./treemap.js";
import { makeTable, reveal } from "./table.js";
import { hueOf, swatch } from "./colours.js";

const COMPLETE = "layerstore report --json has all.";
export const CHANGES = {
  came: "came", went: "went", grew: "grew", shrank: "shrank", content: "other content, same size", metadata: "metadata only",
};

export function cards(items) {
  return h("dl", { class: "cards" }, items.map(([name, value, note, kind]) =>
    h("div", { class: kind || null }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), note && h("span", {}, note)))));
}

export function summary(image) {
  const systems = [...new Set(image.packages.map((one) => one.system))].join(", ");
  return cards([
    ["Size", bytes(image.visible), plural(image.entries, "file")],
    ["Written by layers", bytes(image.written), plural(image.layer_count, "layer")],
    ["Wasted", bytes(image.wasted), `${percent(image.wasted, image.written)} of what is written`, image.wasted > image.written / 10 ? "warn" : ""],
    ["Efficiency", `${(Math.floor(1000 * image.efficiency) / 10).toFixed(1)} %`, "visible of written bytes"],
    ["Packages", count(image.package_count), systems || "no database found"],
  ]);
}

/** The treemap with its three ways to group. Returns the element, and functions that others use. */
export function sizes(image, comparison, leftOut) {
  const tree = decode(image.tree);
  const ofLayers = image.layers.length > 1 ? byLayer(tree, image.layers) : null;
  const ofChanges = comparison ? byChange(comparison.files) : null;
  const map = makeTreemap({
    label: "Sizes",
    paint: (node) => (node.change ? { kind: `change ${node.change}` }
      : node.wasted ? { kind: "leaf wasted", hue: hueOf(node.layer) }
        : node.layer === undefined ? { kind: "box" } : { kind: "leaf", hue: hueOf(node.layer) }),
    describe: (node) => (node.change ? (node.children ? `${signed(node.grown)} in all` : CHANGES[node.change])
      : node.wasted || image.layers.length < 2 || node.layer === undefined || node.top ? "" : node.children && node.layers.size > 1 ? `mostly layer ${node.layer}` : `layer ${node.layer}`),
  });
  const modes = [["directory", "By directory"], ...(ofLayers ? [["layer", "By layer"]] : []), ...(ofChanges && ofChanges.size ? [["change", "By change"]] : [])];
  const trees = { directory: tree, layer: ofLayers, change: ofChanges };
  const legend = h("p", { class: "legend" });
  let chosen = null;
  const start = ofChanges && ofChanges.size ? "change" : "directory";
  const chooser = choice("Group sizes", modes, start, use);
  const buttons = image.layers.map((layer, index) => h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => pick(index) },
    h("span", { ...swatch(index), "aria-hidden": "true" }), `Layer ${index}`));

  function use(mode) {
    legend.replaceChildren();
    if (mode === "change") {
      for (const [kind, text] of Object.entries(CHANGES)) {
        if (kind !== "content" && kind !== "metadata") legend.append(h("span", { class: "key" }, h("span", { class: `dot change ${kind}` }), text));
      }
    } else if (buttons.length > 1) legend.append(...buttons);
    if (mode === "change" && chosen !== null) pick(chosen);
    map.load(trees[mode]);
  }

  function pick(layer) {
    chosen = chosen === layer ? null : layer;
    buttons.forEach((one, index) => one.setAttribute("aria-pressed", String(index === chosen)));
    map.highlight(chosen);
    listeners.forEach((listen) => listen(chosen));
  }
  const listeners = [];

  const element = section("sizes", "Sizes",
    h("div", { class: "bar-of-tools" }, modes.length > 1 && chooser, legend), map.element,
    leftOut["image.tree"] && h("p", { class: "note" }, `${count(leftOut["image.tree"])} small files are folded into their directories. ${COMPLETE}`));
  return {
    element,
    tree,
    start: () => use(start),
    pick,
    listen: (one) => listeners.push(one),
    find(node) {
      chooser.querySelector("button").click();
      map.find(node);
    },
  };
}

export function layers(image, pick, listen) {
  const whole = image.layers.reduce((sum, layer) => sum + layer.written, 0);
  const segments = image.layers.map((layer, index) => h("button", {
    type: "button", class: "segment", "aria-pressed": "false", title: `Layer ${index}: ${bytes(layer.written)}, ${bytes(layer.wasted)} wasted`,
    "aria-label": `Layer ${index}: ${bytes(layer.written)}, ${percent(layer.written, whole)}, ${bytes(layer.wasted)} wasted. Highlight its files`,
    css: { "--hue": String(hueOf(index)), "flex-grow": String(Math.max(layer.written, whole / 400, 1)), "--waste": String(layer.written ? layer.wasted / layer.written : 0) },
    onclick: () => pick(index),
  }, h("span", { class: "label" }, layer.written > whole / 30 ? String(index) : ""), layer.wasted > 0 && h("span", { class: "hatch", "aria-hidden": "true" })));
  listen((chosen) => segments.forEach((one, index) => one.setAttribute("aria-pressed", String(index === chosen))));
  const steps = image.history.length ? image.history : image.layers.map((layer, index) => ({ ...layer, layer: index }));
  const seen = new Set(steps.map((step) => step.layer));
  const rows = [...steps, ...image.layers.map((layer, index) => ({ ...layer, layer: index })).filter((one) => !seen.has(one.layer))];
  const layerOf = (step) => (step.layer === null ? null : image.layers[step.layer]);
  const number = (step, key) => (layerOf(step) ? layerOf(step)[key] : -1);
  const table = makeTable("Layers and the steps of their history", [
    { title: "Layer", value: (step) => (step.layer === null ? -1 : step.layer), cell: (step) => (step.layer === null ? h("span", { class: "faded" }, "–") : h("span", { class: "entry" }, h("span", { ...swatch(step.layer), "aria-hidden": "true" }), String(step.layer))) },
    { title: "Step", class: "wide", cell: (step) => command(step) },
    { title: "Written", number: true, value: (step) => number(step, "written"), cell: (step) => (layerOf(step) ? bytes(layerOf(step).written) : "") },
    { title: "Wasted", number: true, value: (step) => number(step, "wasted"), cell: (step) => (layerOf(step) && layerOf(step).wasted ? bytes(layerOf(step).wasted) : "") },
    { title: "Added", number: true, value: (step) => number(step, "added"), cell: (step) => (layerOf(step) ? count(layerOf(step).added) : "") },
    { title: "Changed", number: true, value: (step) => number(step, "changed"), cell: (step) => (layerOf(step) ? count(layerOf(step).changed) : "") },
    { title: "Deleted", number: true, value: (step) => number(step, "deleted"), cell: (step) => (layerOf(step) ? count(layerOf(step).deleted) : "") },
    { title: "Created", value: (step) => step.created, class: "nowrap", cell: (step) => time(step.created) },
  ], rows, { first: 40 });
  return section("layers", "Layers",
    h("div", { class: "stack", role: "group", "aria-label": "Written bytes of each layer, the base first" }, segments),
    h("p", { class: "note" }, "Widths are written bytes; hatched is what later layers hide.", image.layers.length > 1 && h("span", { class: "on-screen" }, " Choose a layer to highlight its files above.")), table.element);
}

function command(step) {
  const text = (step.created_by || "").replace(/^\/bin\/sh -c #\(nop\)\s+/, "").replace(/^\/bin\/sh -c /, "RUN ");
  const empty = step.layer === null;
  const words = text || step.comment || "unknown";
  return h("span", { class: empty ? "faded" : "" },
    words.length > 160 ? h("details", {}, h("summary", {}, h("code", {}, `${words.slice(0, 150)}…`)), h("code", {}, words)) : h("code", {}, words),
    empty && h("small", {}, " config only"));
}

export function waste(image, leftOut) {
  const parts = [["Overwritten", image.overwritten], ["Deleted", image.deleted], ["Duplicated", image.duplicated]];
  const why = (one) => {
    const by = `layer ${one.hidden_by.join(", ")}`;
    if (one.repeated) return `the same content again in ${by}: as after chown or chmod`;
    return `${one.overwritten === one.size ? "overwritten" : one.overwritten ? "overwritten or deleted" : "deleted"} by ${by}`;
  };
  const places = makeTable("Where the wasted bytes are", [
    { title: "Path", value: (one) => one.path, class: "wide", cell: (one) => h("code", {}, one.path) },
    { title: "Wasted", number: true, value: (one) => one.size, cell: (one) => bytes(one.size) },
    { title: "Files", number: true, value: (one) => one.files, cell: (one) => count(one.files) },
    { title: "Written by", cell: (one) => `layer ${one.layers.join(", ")}` },
    { title: "Why", cell: why },
  ], image.places, { leftOut: leftOut["image.places"], where: COMPLETE });
  const files = makeTable("Files that later layers hide", [
    { title: "Path", value: (one) => one.path, class: "wide", cell: (one) => h("code", {}, one.path) },
    { title: "Size", number: true, value: (one) => one.size, cell: (one) => bytes(one.size) },
    { title: "Layer", number: true, value: (one) => one.layer, cell: (one) => String(one.layer) },
    { title: "Hidden by", number: true, value: (one) => one.hidden_by, cell: (one) => String(one.hidden_by) },
    { title: "How", value: (one) => one.kind, cell: (one) => one.kind + (one.repeated ? " with the same content" : "") },
  ], image.wasted_files, { leftOut: leftOut["image.wasted_files"], where: COMPLETE, first: 10 });
  const duplicates = makeTable("Files with the same content", [
    { title: "Paths", class: "wide", cell: (one) => h("details", {}, h("summary", {}, h("code", {}, one.paths[0]), ` and ${plural(one.paths.length - 1 + (one.more || 0), "other")}`),
      h("ul", {}, one.paths.slice(1).map((path) => h("li", {}, h("code", {}, path))), one.more && h("li", {}, `and ${count(one.more)} more`))) },
    { title: "Size of each", number: true, value: (one) => one.size, cell: (one) => bytes(one.size) },
    { title: "Wasted", number: true, value: (one) => one.wasted, cell: (one) => bytes(one.wasted) },
  ], image.duplicates, { leftOut: leftOut["image.duplicates"], where: COMPLETE, first: 10 });
  return section("waste", "Wasted space",
    h("ul", { class: "parts" }, parts.map(([name, size]) => h("li", {}, h("strong", {}, bytes(size)), ` ${name.toLowerCase()}`))),
    image.places.length > 0 && h("h3", {}, "Where it is"), image.places.length > 0 && places.element,
    image.wasted_files.length > 0 && h("h3", {}, "Hidden files"), image.wasted_files.length > 0 && files.element,
    image.duplicates.length > 0 && h("h3", {}, "Duplicates"), image.duplicates.length > 0 && duplicates.element,
    !image.wasted && h("p", { class: "none" }, "Nothing is wasted."));
}

export function packages(image, leftOut) {
  const several = new Set(image.packages.map((one) => one.system)).size > 1;
  const rows = image.packages.slice().sort((a, b) => b.size - a.size);
  const table = makeTable("Installed packages", [
    { title: "Package", value: (one) => one.name, cell: (one) => one.name },
    { title: "Version", cell: (one) => h("code", {}, one.version) },
    { title: "Architecture", value: (one) => one.architecture, cell: (one) => one.architecture },
    ...(several ? [{ title: "System", value: (one) => one.system, cell: (one) => one.system }] : []),
    { title: "Installed size", number: true, value: (one) => one.size, cell: (one) => (one.size ? bytes(one.size) : "") },
  ], rows, { leftOut: leftOut["image.packages"], where: COMPLETE });
  return section("packages", "Packages", rows.length ? table.element : h("p", { class: "none" }, "No database of dpkg, apk or rpm was found."));
}

export function config(image) {
  const settings = image.config.config && typeof image.config.config === "object" ? image.config.config : {};
  const facts = [["Image ID", image.id], ["Created", time(image.created)], ["Platform", image.platform], ["Author", image.config.author]];
  const rows = [...facts, ...Object.entries(settings)].filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return section("config", "Config", h("dl", { class: "config" }, rows.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, valueOf(value))))));
}

export function valueOf(value) {
  if (value === null || value === undefined) return h("span", { class: "faded" }, "–");
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) {
    return value.length ? h("ul", {}, value.map((one) => h("li", {}, h("code", {}, one)))) : h("span", { class: "faded" }, "empty");
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return h("ul", {}, entries.map(([key, one]) => h("li", {}, h("code", {}, one && typeof one === "object" && !Object.keys(one).length ? key : `${key}=${typeof one === "string" ? one : JSON.stringify(one)}`))));
  }
  return h("code", {}, String(value));
}

/** What search can find in an image. */
export function entries(image, view) {
  const found = [];
  const pending = [view.tree];
  while (pending.length) {
    const node = pending.pop();
    for (const child of node.children) {
      if (child.children) pending.push(child);
      if (!child.folded) found.push({ group: child.children ? "directory" : "file", text: pathOf(child), detail: bytes(child.size), weight: child.size, go: () => view.find(child) });
    }
  }
  image.packages.forEach((one) => found.push({ group: "package", text: one.name, detail: `${one.version} · ${bytes(one.size)}`, weight: 1e12 + one.size, go: () => reveal(one) }));
  image.wasted_files.forEach((one) => found.push({ group: "wasted", text: one.path, detail: `${bytes(one.size)}, ${one.kind} by layer ${one.hidden_by}`, weight: one.size, go: () => reveal(one) }));
  image.layers.forEach((one, index) => found.push({ group: `layer ${index}`, text: one.created_by || `layer ${index}`, detail: bytes(one.written), weight: one.written, go: jump("layers") }));
  return found;
}

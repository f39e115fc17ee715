// The sections of a store.

import { h, section, bytes, count, percent, time } from "./dom.js";
import { ofStore } from "./tree.js";
import { makeTreemap } from "./treemap.js";
import { makeTable, reveal } from "./table.js";
import { cards } from "./image.js";

const COMPLETE = "layerstore report --store --json has all.";
const USES = { used: "in use", idle: "not in use", free: "free: gc removes it", shared: "shared" };
const yes = (value) => (value ? "yes" : "no");
const short = (id) => id.replace(/^sha256:/, "").slice(0, 12);

export function storeSections(store, leftOut) {
  const total = Object.fromEntries(store.totals.map((one) => [one.kind, one]));
  const kept = store.totals.filter((one) => one.kind !== "images");
  const size = kept.reduce((sum, one) => sum + one.size, 0);
  const free = store.totals.filter((one) => one.kind !== "layers").reduce((sum, one) => sum + one.reclaimable, 0) + total.layers.reclaimable;
  const tree = ofStore(store);
  const map = makeTreemap({
    label: "What the store has", rootName: "store", itemNoun: "object",
    paint: (node) => (node.use ? { kind: `use ${node.use}` } : { kind: "box" }),
    describe: (node) => USES[node.use] || "",
  });
  const images = makeTable("Images", [
    { title: "Image", value: (one) => one.names[0] || one.id, class: "wide", cell: (one) => (one.names.length ? one.names.map((name) => h("div", {}, name)) : h("code", {}, short(one.id))) },
    { title: "Size", number: true, value: (one) => one.size, cell: (one) => bytes(one.size) },
    { title: "Shared", number: true, value: (one) => one.shared, cell: (one) => bytes(one.shared) },
    { title: "Own", number: true, value: (one) => one.own, cell: (one) => bytes(one.own) },
    { title: "Kept besides", number: true, value: (one) => one.kept, cell: (one) => (one.kept ? bytes(one.kept) : "") },
    { title: "In use", value: (one) => String(one.in_use), cell: (one) => yes(one.in_use) },
    { title: "Last used", value: (one) => one.last_used, class: "nowrap", cell: (one) => time(one.last_used) },
  ], store.images.slice().sort((a, b) => b.own - a.own), { first: 25, leftOut: leftOut["store.images"], where: COMPLETE });
  const layers = makeTable("Layers", [
    { title: "Chain ID", class: "wide", value: (one) => one.chain_id, cell: (one) => h("code", {}, short(one.chain_id)) },
    { title: "Own bytes", number: true, value: (one) => one.diff_size, cell: (one) => bytes(one.diff_size) },
    { title: "Images", number: true, value: (one) => one.images, cell: (one) => count(one.images) },
    { title: "In use", value: (one) => String(one.in_use), cell: (one) => (one.in_use ? "yes" : "no: gc removes it") },
  ], store.layers.slice().sort((a, b) => b.diff_size - a.diff_size), { leftOut: leftOut["store.layers"], where: COMPLETE });
  const writable = makeTable("Writable layers", [
    { title: "Name", class: "wide", value: (one) => one.name, cell: (one) => one.name },
    { title: "Parent", cell: (one) => h("code", {}, one.parent ? short(one.parent) : "none") },
    { title: "Size", number: true, value: (one) => one.size ?? -1, cell: (one) => (one.size === null ? "unknown" : bytes(one.size)) },
    { title: "In use", value: (one) => String(one.in_use), cell: (one) => yes(one.in_use) },
  ], store.rw_layers, { leftOut: leftOut["store.rw_layers"], where: COMPLETE });
  const snapshots = makeTable("Snapshots", [
    { title: "Key", class: "wide", value: (one) => one.key, cell: (one) => one.key },
    { title: "Kind", value: (one) => one.kind, cell: (one) => one.kind },
    { title: "Parent", cell: (one) => one.parent },
    { title: "Size", number: true, value: (one) => one.size ?? -1, cell: (one) => (one.size === null ? "unknown" : bytes(one.size)) },
  ], store.snapshots, { leftOut: leftOut["store.snapshots"], where: COMPLETE });
  const totals = makeTable("Totals", [
    { title: "What", class: "wide", cell: (one) => one.kind },
    { title: "Count", number: true, cell: (one) => count(one.count) },
    { title: "In use", number: true, cell: (one) => count(one.in_use) },
    { title: "Size", number: true, cell: (one) => bytes(one.size) },
    { title: "Reclaimable", number: true, cell: (one) => `${bytes(one.reclaimable)} (${percent(one.reclaimable, one.size)})` },
  ], store.totals);
  const elements = [
    cards([
      ["Size", bytes(size), "layers and all else, each once"],
      ["Reclaimable", bytes(free), `${percent(free, size)}: what is not in use`, free > size / 4 ? "warn" : ""],
      ["Images", count(total.images.count), `${count(total.images.in_use)} in use`],
      ["Layers", count(total.layers.count), `${count(total.layers.in_use)} in use`],
      ["Writable layers", count(total["writable layers"].count), `${count(total["writable layers"].in_use)} in use`],
    ]),
    section("sizes", "Sizes", h("p", { class: "legend" }, Object.entries(USES).map(([use, text]) => h("span", { class: "key" }, h("span", { class: `dot use ${use}` }), text))), map.element),
    section("totals", "Totals", totals.element, h("p", { class: "note" }, "Images and layers count the same bytes. Reclaimable is what is freed if all that is not in use is removed.")),
    section("images", "Images", images.element),
    section("layers", "Layers", layers.element),
    store.rw_layers.length > 0 && section("writable", "Writable layers", writable.element),
    store.snapshots.length > 0 && section("snapshots", "Snapshots", snapshots.element),
  ];
  const found = () => [
    ...store.images.map((one) => ({ group: "image", text: [...one.names, short(one.id)].join(" "), detail: bytes(one.size), weight: one.size, go: () => reveal(one) })),
    ...store.layers.map((one) => ({ group: "layer", text: one.chain_id, detail: bytes(one.diff_size), weight: one.diff_size, go: () => reveal(one) })),
    ...store.rw_layers.map((one) => ({ group: "writable layer", text: one.name, detail: one.size === null ? "" : bytes(one.size), weight: one.size || 0, go: () => reveal(one) })),
    ...store.snapshots.map((one) => ({ group: "snapshot", text: one.key, detail: one.size === null ? "" : bytes(one.size), weight: one.size || 0, go: () => reveal(one) })),
  ];
  return { elements, entries: found, start: () => map.load(tree) };
}

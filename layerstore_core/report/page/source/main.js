// Draws the report that the page's data is.

import { h, append, time, plural } from "./dom.js";
import { makeHeader } from "./header.js";
import { makeSearch } from "./search.js";
import * as parts from "./image.js";
import { comparison, changed } from "./compare.js";
import { rules } from "./rules.js";
import { storeSections } from "./store.js";

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const leftOut = data.left_out;
main.replaceChildren();

/** What a search cannot find, because the page does not have it. */
function unsearched(nouns, command) {
  const missing = Object.entries(nouns).filter(([key]) => leftOut[key]).map(([key, noun]) => plural(leftOut[key], noun));
  return missing.length ? `not searched: ${missing.join(", ")}, which only ${command} --json has` : "";
}

if (data.kind === "store") {
  const store = storeSections(data.store, leftOut);
  const names = [["sizes", "Sizes"], ["totals", "Totals"], ["images", "Images"], ["layers", "Layers"],
    ...(data.store.rw_layers.length ? [["writable", "Writable layers"]] : []), ...(data.store.snapshots.length ? [["snapshots", "Snapshots"]] : [])];
  makeHeader("Store", [plural(data.store.totals[0].count, "image"), plural(data.store.totals[1].count, "layer")], names, makeSearch("Search images and layers", store.entries,
    unsearched({ "store.images": "image", "store.layers": "layer", "store.rw_layers": "writable layer", "store.snapshots": "snapshot" }, "layerstore report --store")));
  append(main, store.elements);
  store.start();
} else {
  const { image } = data;
  const two = data.kind === "comparison";
  const sizes = parts.sizes(image, two ? data.comparison : null, leftOut);
  const checked = data.rules && data.rules.length > 0;
  const names = [...(checked ? [["rules", "Rules"]] : []), ...(two ? [["comparison", "What changed"]] : []), ["sizes", "Sizes"], ["layers", "Layers"], ["waste", "Wasted space"], ["packages", "Packages"], ["config", "Config"]];
  const note = unsearched({ "image.tree": "small file", "image.packages": "package", "image.wasted_files": "hidden file", ...(two && { "comparison.files": "changed file" }) }, "layerstore report");
  const entries = () => [...parts.entries(image, sizes), ...(two ? changed(data.comparison) : [])];
  makeHeader(two ? [data.before.name, " → ", image.name].join("") : image.name,
    [image.platform, image.created && `created ${time(image.created)}`, image.id.slice(7, 19)], names, makeSearch("Search files, packages, commands", entries, note));
  append(main, [
    checked && rules(data.rules),
    two ? comparison(data) : parts.summary(image),
    two && h("h2", { class: "of" }, `In ${image.name}`), two && parts.summary(image),
    sizes.element, parts.layers(image, sizes.pick, sizes.listen), parts.waste(image, leftOut), parts.packages(image, leftOut), parts.config(image),
  ]);
  sizes.start();
}
append(document.getElementById("foot"), [h("p", {}, `Made by layerstore${data.version ? ` ${data.version}` : ""}. Sizes are bytes in files, not blocks on disk. This page needs no network.`)]);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => one.setAttribute("open", "")));
document.documentElement.dataset.ready = "yes";

// The trees that treemaps show. A node has a name, a size, and either a layer or children.

import { plural } from "./dom.js";

/** Decode the rows of `image.tree`, which are described in `fold.py`. */
export function decode(rows) {
  const root = directory("", null);
  const way = [root];
  for (const [depth, name, size, layer, count] of rows) {
    if (depth === 0) continue;
    const parent = way[depth - 1];
    if (size === undefined) {
      way[depth] = directory(name, parent);
      parent.children.push(way[depth]);
    } else if (name === 0) {
      parent.children.push({ name: plural(count, "smaller file"), size, layer, count, folded: true, parent });
    } else {
      parent.children.push({ name, size, layer, count: 1, parent });
    }
  }
  return sum(root);
}

export function directory(name, parent, more) {
  return { name, size: 0, count: 0, children: [], parent, ...more };
}

/** Set sizes, counts and the main layer of all directories: the layer that most of their bytes come from. */
export function sum(root) {
  const order = [root];
  for (let i = 0; i < order.length; i += 1) {
    for (const child of order[i].children) if (child.children) order.push(child);
  }
  for (const node of order.reverse()) {
    node.size = 0;
    node.count = 0;
    node.grown = 0;
    const layers = new Map();
    for (const child of node.children) {
      node.size += child.size;
      node.grown += child.grown || 0;
      node.count += (child.count || 0) + (child.children ? 1 : 0);
      if (child.layers) for (const [layer, size] of child.layers) layers.set(layer, (layers.get(layer) || 0) + size);
      else if (child.layer !== undefined) layers.set(child.layer, (layers.get(child.layer) || 0) + child.size);
    }
    node.layers = layers;
    let most = -1;
    for (const [layer, size] of layers) if (size > most) [node.layer, most] = [layer, size];
    node.children.sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
  }
  return root;
}

/** The path of a node, from the root of the file system. */
export function pathOf(node) {
  const names = [];
  for (let one = node; one && one.parent && !one.top; one = one.parent) names.push(one.name);
  return `/${names.reverse().join("/")}`;
}

/** The same files below a node for each layer, and what each layer has wasted. */
export function byLayer(root, layers) {
  const top = directory("", null);
  const tops = layers.map((layer, index) => {
    const node = directory(`Layer ${index}`, top, { top: true, title: layer.created_by, layer: index });
    top.children.push(node);
    return node;
  });
  // Each directory of the tree has a twin in a layer once the layer has a file in it.
  const pending = [[root, tops.slice()]];
  while (pending.length) {
    const [node, twins] = pending.pop();
    for (const child of node.children) {
      if (child.children) {
        const below = [];
        for (const layer of child.layers.keys()) {
          below[layer] = directory(child.name, twins[layer]);
          twins[layer].children.push(below[layer]);
        }
        pending.push([child, below]);
      } else {
        twins[child.layer].children.push({ ...child, parent: twins[child.layer] });
      }
    }
  }
  tops.forEach((node, index) => {
    const size = layers[index].wasted;
    if (size) node.children.push({ name: "wasted: hidden by later layers", size, layer: index, wasted: true, count: 0, parent: node });
  });
  sum(top);
  top.children = top.children.filter((one) => one.size);
  tops.forEach((node, index) => {
    node.layer = index;
  });
  return top;
}

/** The files that differ between two images; a size is by how much. */
export function byChange(files) {
  const root = directory("", null);
  const known = new Map([["", root]]);
  const place = (path) => {
    const missing = [];
    let here = path;
    while (!known.has(here)) {
      missing.push(here);
      here = here.slice(0, here.lastIndexOf("/"));
    }
    let node = known.get(here);
    for (const one of missing.reverse()) {
      const inner = directory(one.slice(one.lastIndexOf("/") + 1), node);
      node.children.push(inner);
      known.set(one, inner);
      node = inner;
    }
    return node;
  };
  for (const file of files) {
    const grown = grownBy(file);
    if (!grown) continue;
    const cut = file.path.lastIndexOf("/");
    const parent = place(file.path.slice(0, cut));
    parent.children.push({ name: file.path.slice(cut + 1), size: Math.abs(grown), grown, change: changeOf(file), count: 1, parent });
  }
  sum(root);
  for (const node of known.values()) node.change = node.grown < 0 ? "shrank" : "grew";
  return root;
}

export function grownBy(file) {
  return (file.after || 0) - (file.before || 0);
}

/** How a file changed: `came`, `went`, `grew`, `shrank`, `content` or `metadata`. */
export function changeOf(file) {
  if (file.kind === "added") return "came";
  if (file.kind === "deleted") return "went";
  const grown = grownBy(file);
  if (grown) return grown > 0 ? "grew" : "shrank";
  return file.what.includes("content") || file.what.includes("type") || file.what.includes("target") ? "content" : "metadata";
}

/** The layers and other objects of a store. */
export function ofStore(store) {
  const root = directory("", null);
  const group = (name, nodes) => {
    const node = directory(name, root, { top: true });
    node.children = nodes.filter((one) => one.size).map((one) => ({ count: 1, parent: node, ...one }));
    if (node.children.length) root.children.push(node);
  };
  const layers = store.layers.map((one) => ({ name: one.chain_id.slice(7, 19), size: one.diff_size, images: one.images, used: one.in_use }));
  group("Layers of one image", store.images.map((one) => ({ name: one.names[0] || one.id.slice(7, 19), size: one.own, use: one.in_use ? "used" : "idle" })));
  group("Layers of several images", layers.filter((one) => one.images > 1).map((one) => ({ ...one, use: "shared" })));
  group("Layers without an image", layers.filter((one) => !one.images).map((one) => ({ ...one, use: one.used ? "used" : "free" })));
  group("Writable layers", store.rw_layers.map((one) => ({ name: one.name, size: one.size || 0, use: one.in_use ? "used" : "idle" })));
  group("Snapshots", store.snapshots.map((one) => ({ name: one.key, size: one.size || 0, use: "used" })));
  const kinds = ["documents", "compressed layers", "downloads"];
  group("Kept besides", store.totals.filter((one) => kinds.includes(one.kind)).map((one) => ({ name: one.kind, size: one.size, use: "shared" })));
  return sum(root);
}

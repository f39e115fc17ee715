// A treemap that zooms. The tiles of the directory in view are buttons; what is in them is drawn, and for the mouse.

import { hierarchy, treemap, treemapSquarify } from "d3-hierarchy";
import { h, replace, append, bytes, percent, count, plural } from "./dom.js";
import { pathOf } from "./tree.js";
import { tip } from "./tip.js";

const DEEPEST = 4;
const SMALLEST = 9;
const HEAD = 19;

/**
 * @param options.label what the sizes are of
 * @param options.paint returns the class and the hue of a leaf
 * @param options.describe returns what is said of a node besides its size
 */
export function makeTreemap({ label, paint, describe, rootName = "/", itemNoun = "file" }) {
  let root = null;
  let here = null;
  let dimmed = null;
  let marked = null;
  const map = h("div", { class: "map", role: "group" });
  const crumbs = h("nav", { class: "crumbs", "aria-label": `Place in ${label}` });
  const list = h("div", { class: "inside" });
  const status = h("p", { class: "visually-hidden", role: "status" });
  const element = h("div", { class: "treemap" }, crumbs, status, h("div", { class: "halves" }, map, list));

  function show(node, { focus = false, mark = null } = {}) {
    here = node;
    marked = mark;
    draw();
    drawCrumbs();
    drawList();
    status.textContent = `${titleOf(node)}: ${bytes(node.size)}, ${plural(node.children.length, "item")}`;
    if (focus) (map.querySelector("button.marked") || map.querySelector("button") || map).focus();
  }

  function titleOf(node) {
    return node.parent ? (node.top ? node.name : pathOf(node)) : rootName;
  }

  function drawCrumbs() {
    const way = [];
    for (let one = here; one; one = one.parent) way.unshift(one);
    replace(crumbs, h("ol", {}, way.map((one, index) => {
      const name = index ? one.name : rootName;
      const last = index === way.length - 1;
      return h("li", {}, last ? h("span", { "aria-current": "location" }, name)
        : h("button", { type: "button", onclick: () => show(one, { focus: true }) }, name));
    })), h("span", { class: "sum" }, bytes(here.size), here.parent ? ` · ${percent(here.size, root.size)} of all` : ""));
  }

  function draw() {
    const width = map.clientWidth || 800;
    const height = map.clientHeight || 480;
    replace(map);
    map.setAttribute("aria-label", `${label}: ${titleOf(here)}. Arrow keys move, Enter opens a directory, Escape goes up.`);
    const top = hierarchy(cut(here, here.size / (width * height) * SMALLEST * 4, 0)).sum((one) => (one.children ? 0 : one.size));
    treemap().tile(treemapSquarify.ratio(1.3)).size([width, height]).round(true).paddingInner(2)
      .paddingTop((one) => (one.depth ? (makeHead(one) ? HEAD : 2) : 0))
      .paddingRight((one) => (one.depth ? 2 : 0)).paddingBottom((one) => (one.depth ? 2 : 0)).paddingLeft((one) => (one.depth ? 2 : 0))(top);
    const tiles = document.createDocumentFragment();
    let first = true;
    top.eachBefore((one) => {
      const [w, t] = [one.x1 - one.x0, one.y1 - one.y0];
      if (!one.depth || w < 3 || t < 3) return;
      // Where padding leaves no room, d3 puts tiles over the edge.
      const edge = one.parent.depth ? 2 : 0;
      if (one.x1 > one.parent.x1 - edge || one.y1 > one.parent.y1 - edge) return;
      if (one.parent.depth && !isOpen(one.parent)) return;
      tiles.append(tile(one, w, t, one.depth === 1 && first));
      if (one.depth === 1) first = false;
    });
    map.append(tiles);
    if (!here.children.some((one) => one.size)) map.append(h("p", { class: "none" }, "There are no bytes here."));
  }

  /** Whether there is room for what is in a tile. */
  function isOpen(one) {
    return Boolean(one.children && one.children.length) && one.x1 - one.x0 >= 16 && one.y1 - one.y0 >= 16;
  }

  /** Note whether there is room for a name above what is in a tile: asked later, rounding might change the answer. */
  function makeHead(one) {
    one.head = one.y1 - one.y0 > 44 && one.x1 - one.x0 > 36;
    return one.head;
  }

  /** A copy of a tree without what is too small or too deep to see. */
  function cut(node, least, depth) {
    const copy = { node, size: node.size };
    if (node.children && node.children.length && depth < DEEPEST && (depth === 0 || node.size > least * 4)) {
      copy.children = [];
      let [size, number] = [0, 0];
      for (const child of node.children) {
        if (child.size >= least) copy.children.push(cut(child, least, depth + 1));
        else [size, number] = [size + child.size, number + 1];
      }
      if (size) copy.children.push({ node: { name: `${count(number)} smaller`, size, rest: true, parent: node, layer: node.layer }, size });
    }
    return copy;
  }

  function tile(one, w, t, first) {
    const node = one.data.node;
    const open = isOpen(one);
    const { kind, hue } = open ? { kind: "box" } : paint(node);
    const faint = dimmed !== null && !open && node.layer !== dimmed;
    const top = one.depth === 1;
    const classes = ["tile", kind, open ? "open" : "", faint ? "faint" : "", node === marked ? "marked" : "", node.children ? "dir" : ""];
    const words = node.title && w > 160 ? `${node.name} · ${node.title}` : node.name;
    const text = w > 34 && (open ? one.head : t > 15);
    const props = {
      class: classes.filter(Boolean).join(" "),
      css: { left: `${one.x0}px`, top: `${one.y0}px`, width: `${w}px`, height: `${t}px`, ...(hue === undefined ? {} : { "--hue": String(hue) }) },
      onclick: (event) => {
        event.stopPropagation();
        act(node);
      },
      onmouseenter: (event) => tip.show(event, titles(node)),
      onmousemove: (event) => tip.move(event),
      onmouseleave: () => tip.hide(),
    };
    if (top) {
      Object.assign(props, {
        type: "button",
        tabindex: first ? "0" : "-1",
        "aria-label": [`${words} ${bytes(node.size)}`, percent(node.size, here.size), node.children && "directory", describe(node)].filter(Boolean).join(", "),
        onfocus: (event) => event.target.matches(":focus-visible") && tip.at(event.target, titles(node)),
        onblur: () => tip.hide(),
      });
    }
    const made = h(top ? "button" : "div", props, text && h("span", { class: "name" }, words),
      text && (open ? w > 110 : t > 32 && w > 54) && " ", text && (open ? w > 110 : t > 32 && w > 54) && h("span", { class: "size" }, bytes(node.size)));
    if (!top) made.setAttribute("aria-hidden", "true");
    made.node = node;
    return made;
  }

  function titles(node) {
    const name = node.rest ? `${pathOf(node.parent)}: ${node.name}` : node.folded ? `${pathOf(node.parent)}: ${node.name}` : node.top || !node.parent || !node.parent.parent && rootName !== "/" ? node.name : pathOf(node);
    return [name, `${bytes(node.size)} · ${percent(node.size, here.size)} of ${titleOf(here)} · ${percent(node.size, root.size)} of all`,
      node.children && node.count ? plural(node.count, itemNoun) : "", node.title || "", describe(node)].filter(Boolean);
  }

  function act(node) {
    tip.hide();
    if (node.children && node.children.length) show(node, { focus: true });
    else if (node.parent !== here && node.parent) show(node.parent, { focus: true, mark: node });
    else {
      marked = node;
      draw();
      drawList();
      const button = map.querySelector("button.marked");
      if (button) button.focus();
    }
  }

  map.addEventListener("keydown", (event) => {
    const button = event.target.closest("button");
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape" || event.key === "Backspace") {
      if (!here.parent) return;
      event.preventDefault();
      show(here.parent, { focus: true, mark: here });
    } else if (moves[event.key] && button) {
      event.preventDefault();
      const next = neighbour(button, moves[event.key]);
      if (!next) return;
      button.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  });

  /** The nearest tile in a direction. */
  function neighbour(from, [dx, dy]) {
    const middle = (one) => [one.offsetLeft + one.offsetWidth / 2, one.offsetTop + one.offsetHeight / 2];
    const [x, y] = middle(from);
    let [best, least] = [null, Infinity];
    for (const one of map.querySelectorAll("button")) {
      const [a, b] = middle(one);
      const along = (a - x) * dx + (b - y) * dy;
      // It has to begin where the other one ends: a lower one beside it is not below it.
      const gap = Math.abs(along) - (dx ? from.offsetWidth + one.offsetWidth : from.offsetHeight + one.offsetHeight) / 2;
      if (one === from || along <= 0 || gap < -4) continue;
      const distance = along + 3 * Math.abs((a - x) * dy + (b - y) * dx);
      if (distance < least) [best, least] = [one, distance];
    }
    return best;
  }

  function drawList(all = false) {
    const most = 14;
    const shown = all ? here.children : here.children.slice(0, most);
    const largest = here.children.length ? here.children[0].size : 0;
    replace(list, h("table", { class: "contents" },
      h("caption", {}, `In ${titleOf(here)}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"), h("th", { scope: "col", class: "number" }, "Size"), h("th", { scope: "col", class: "number" }, "Share"))),
      h("tbody", {}, shown.map((node) => {
        const { kind, hue } = paint(node);
        const dot = h("span", { class: `dot ${kind}`, "aria-hidden": "true", css: hue === undefined ? {} : { "--hue": String(hue) } });
        const name = node.children && node.children.length
          ? h("button", { type: "button", class: "link", onclick: () => show(node, { focus: true }) }, node.name, node.top ? "" : "/")
          : h("span", {}, node.name);
        return h("tr", { class: node === marked ? "marked" : "" }, h("td", {}, h("span", { class: "entry" }, dot, h("span", { class: "words" }, name,
          describe(node) && h("small", {}, describe(node)), node.title && h("small", {}, node.title)))),
          h("td", { class: "number" }, bytes(node.size), node.size > 0 && h("span", { class: "bar", "aria-hidden": "true", css: { "--part": largest ? String(node.size / largest) : "0" } })),
          h("td", { class: "number" }, percent(node.size, here.size)));
      }))),
    here.children.length > shown.length && h("button", { type: "button", class: "more", onclick: () => drawList(true) }, `Show all ${count(here.children.length)}`));
  }

  let wide = 0;
  new ResizeObserver(() => {
    if (here && Math.abs(map.clientWidth - wide) > 1) {
      wide = map.clientWidth;
      draw();
    }
  }).observe(map);
  addEventListener("beforeprint", () => here && draw());

  return {
    element,
    load(tree) {
      root = tree;
      show(tree);
    },
    highlight(layer) {
      dimmed = layer;
      draw();
    },
    /** Show the directory of a node, and mark the node. */
    find(node) {
      const place = node.children && node.children.length ? node : node.parent;
      show(place, { mark: node });
      element.scrollIntoView({ block: "start" });
      (map.querySelector("button.marked") || map.querySelector("button"))?.focus({ preventScroll: true });
    },
  };
}

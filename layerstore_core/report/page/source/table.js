// A table that can be sorted, that shows its first rows until all are asked for, and in which search finds rows.

import { h, replace, count } from "./dom.js";

const tables = new WeakMap();

/** Show the table of a row, and the row in it. */
export function reveal(row) {
  tables.get(row)(row);
}

/**
 * @param columns objects with `title`, `cell` (returns what is shown) and, to be sorted by, `value`
 * @param rows the rows, in their first order
 */
export function makeTable(caption, columns, rows, { first = 15, leftOut = 0, where = "" } = {}) {
  let [by, direction, all, marked] = [null, 1, false, null];
  const body = h("tbody");
  const under = h("div", { class: "under" });
  const heads = columns.map((column) => {
    const button = column.value
      ? h("button", { type: "button", onclick: () => {
        direction = by === column ? -direction : column.number ? -1 : 1;
        by = column;
        draw();
      } }, column.title, h("span", { class: "arrow", "aria-hidden": "true" }))
      : h("span", { class: column.hidden ? "visually-hidden" : "" }, column.title);
    return h("th", { scope: "col", class: column.number ? "number" : "" }, button);
  });
  const element = h("div", { class: "table" },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${caption}` },
      h("table", {}, h("caption", { class: "visually-hidden" }, caption), h("thead", {}, h("tr", {}, heads)), body)), under);

  function draw() {
    const sorted = by ? rows.slice().sort((a, b) => {
      const [x, y] = [by.value(a), by.value(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * direction;
    }) : rows;
    heads.forEach((head, index) => {
      if (columns[index] === by) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const shown = all ? sorted : sorted.slice(0, first);
    replace(body, shown.map((row) => h("tr", { class: row === marked ? "marked" : null }, columns.map((column) =>
      h("td", { class: [column.number ? "number" : "", column.class || ""].join(" ").trim() || null }, column.cell(row))))));
    replace(under,
      rows.length > shown.length && h("button", { type: "button", class: "more", onclick: () => {
        all = true;
        draw();
      } }, `Show all ${count(rows.length)}`),
      leftOut > 0 && (all || rows.length <= first) && h("p", { class: "note" }, `${count(leftOut)} more are left out of this page. ${where}`));
    if (!rows.length) replace(body, h("tr", {}, h("td", { colspan: String(columns.length), class: "none" }, "None.")));
  }

  function find(row) {
    [marked, all] = [row, true];
    draw();
    // A filter may have taken the row away.
    const line = body.querySelector("tr.marked") || element;
    line.tabIndex = -1;
    line.scrollIntoView({ block: "center" });
    line.focus({ preventScroll: true });
  }

  rows.forEach((row) => tables.set(row, find));
  draw();
  return {
    element,
    set(others) {
      rows = others;
      all = false;
      draw();
    },
  };
}

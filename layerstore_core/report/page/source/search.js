// Search over all that the page has: every word has to be in a text.

import { h, replace, count, plural } from "./dom.js";

const MOST = 60;

/**
 * @param label what is asked for
 * @param entries returns the objects that can be found: `group`, `text`, `detail`, `weight` and `go`
 */
export function makeSearch(label, entries, note) {
  let index = null;
  const status = h("p", { class: "found", role: "status" });
  const list = h("ul", { id: "results" });
  const panel = h("div", { class: "results", hidden: true }, status, list);
  const input = h("input", { type: "search", id: "search", placeholder: label, "aria-label": label, "aria-controls": "results", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/" });
  const element = h("div", { class: "search", role: "search" }, input, h("kbd", { "aria-hidden": "true" }, "/"), panel);

  function find() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    panel.hidden = !words.length;
    if (!words.length) return;
    index ??= entries().map((one) => ({ ...one, lower: `${one.text}\n${one.detail || ""}`.toLowerCase() }));
    const found = index.filter((one) => words.every((word) => one.lower.includes(word)));
    const last = words[words.length - 1];
    // What has the last word in its own name comes before what has it in its directory.
    const rank = (one) => (one.text.toLowerCase().slice(one.text.lastIndexOf("/") + 1).includes(last) ? 1 : 0);
    found.sort((a, b) => rank(b) - rank(a) || b.weight - a.weight);
    status.textContent = `${plural(found.length, "result")}${found.length > MOST ? `, the first ${MOST} are shown` : ""}${note ? ` · ${note}` : ""}`;
    replace(list, found.slice(0, MOST).map((one) => h("li", {}, h("button", { type: "button", onclick: () => go(one) },
      h("span", { class: "group" }, one.group), h("span", { class: "text" }, one.text), h("span", { class: "detail" }, one.detail)))));
  }

  function go(one) {
    close();
    one.go();
  }

  function close() {
    panel.hidden = true;
  }

  input.addEventListener("input", find);
  input.addEventListener("focus", find);
  element.addEventListener("keydown", (event) => {
    const buttons = [input, ...list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      buttons[Math.max(0, Math.min(buttons.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)))].focus();
    } else if (event.key === "Enter" && at === 0 && buttons.length > 1 && !panel.hidden) {
      event.preventDefault();
      buttons[1].click();
    } else if (event.key === "Escape") {
      event.preventDefault();
      input.value = "";
      close();
      input.focus();
      close();
    }
  });
  element.addEventListener("focusout", (event) => {
    if (!element.contains(event.relatedTarget)) close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
  return element;
}

// The top of the page: title, links to the sections, search, and the choice of light or dark.

import { h, append } from "./dom.js";

export function makeHeader(title, facts, sections, search) {
  append(document.getElementById("top"), [
    h("div", { class: "line" },
      h("div", { class: "titles" }, h("h1", {}, title), facts.length > 0 && h("p", { class: "facts" }, facts.filter(Boolean).join(" · "))),
      h("div", { class: "tools" }, search, themeButton())),
    h("nav", { class: "sections", "aria-label": "Sections" }, sections.map(([id, name]) => h("a", { href: `#${id}` }, name))),
  ]);
}

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function themeButton() {
  const stored = recall();
  const button = h("button", { type: "button", class: "theme", onclick: () => {
    const names = Object.keys(THEMES);
    set(names[(names.indexOf(document.documentElement.dataset.theme || "auto") + 1) % names.length]);
  } });
  function set(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    button.setAttribute("aria-label", `${THEMES[theme]}. Change it`);
    button.title = THEMES[theme];
    try {
      localStorage.setItem("layerstore-report-theme", theme);
    } catch {
      // Some browsers keep nothing for pages from disk.
    }
  }
  set(THEMES[stored] ? stored : "auto");
  return button;
}

function recall() {
  try {
    return localStorage.getItem("layerstore-report-theme") || "auto";
  } catch {
    return "auto";
  }
}

// The text beside the pointer. What it says is also in labels and lists, so that nobody needs it.

import { h, replace } from "./dom.js";

const box = () => document.getElementById("tip");

function place(x, y) {
  const node = box();
  const [w, t] = [node.offsetWidth, node.offsetHeight];
  node.style.left = `${Math.max(4, x + 14 + w > innerWidth ? x - w - 10 : x + 14)}px`;
  node.style.top = `${Math.max(4, y + 16 + t > innerHeight ? y - t - 10 : y + 16)}px`;
}

function fill(lines) {
  const node = box();
  replace(node, lines.map((line, index) => h(index ? "div" : "strong", {}, line)));
  node.hidden = false;
}

export const tip = {
  show(event, lines) {
    fill(lines);
    place(event.clientX, event.clientY);
  },
  move(event) {
    if (!box().hidden) place(event.clientX, event.clientY);
  },
  at(element, lines) {
    fill(lines);
    const { left, bottom } = element.getBoundingClientRect();
    place(left, bottom - 12);
  },
  hide() {
    box().hidden = true;
  },
};
addEventListener("scroll", () => tip.hide(), { passive: true });
addEventListener("keydown", (event) => event.key === "Escape" && tip.hide());

// Elements and texts. No text becomes markup: all texts are set as text nodes or attributes.

/** Make an element. `props` are attributes; `on…` are listeners; children are elements or texts. */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "css") for (const [name, one] of Object.entries(value)) node.style.setProperty(name, one);
    else node.setAttribute(key, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

export function append(node, children) {
  for (const child of children.flat(9)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export function replace(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size in binary units, as the program prints it. */
export function bytes(size) {
  let value = Math.abs(size);
  let unit = 0;
  while (unit < UNITS.length - 1 && value >= (unit ? 1023.95 : 1024)) {
    value /= 1024;
    unit += 1;
  }
  return `${size < 0 ? "−" : ""}${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function signed(size) {
  return size > 0 ? `+${bytes(size)}` : size < 0 ? bytes(size) : "±0 B";
}

export function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function percent(part, whole) {
  if (!whole) return "0 %";
  const value = (100 * part) / whole;
  return `${value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1)} %`;
}

export function time(text) {
  return text ? text.slice(0, 16).replace("T", " ") : "";
}

/** A section with a heading that can be linked to. */
export function section(id, title, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), children);
}

/** Return a function that goes to a section. */
export function jump(id) {
  return () => {
    const heading = document.getElementById(`${id}-title`);
    heading.tabIndex = -1;
    heading.scrollIntoView();
    heading.focus();
  };
}

/** Buttons of which one is chosen. */
export function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => {
      buttons.forEach((one) => one.setAttribute("aria-pressed", "false"));
      buttons[options.findIndex(([other]) => other === value)].setAttribute("aria-pressed", "true");
      choose(value);
    } }, text),
  );
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

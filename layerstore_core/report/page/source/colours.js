// Which colour what has. A layer has a hue; neighbours have hues that are far apart.

const HUES = [255, 65, 155, 325, 205, 100, 290, 25, 180, 350];

export function hueOf(layer) {
  return HUES[layer % HUES.length] + Math.floor(layer / HUES.length) * 17;
}

export function swatch(layer) {
  return { class: "swatch", css: { "--hue": String(hueOf(layer)) } };
}

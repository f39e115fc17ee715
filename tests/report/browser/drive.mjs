// Opens pages of reports from disk in a real browser, uses them, and fails if anything is wrong.
//
// node drive.mjs DIRECTORY BROWSER: the directory has image.html, compare.html, store.html, hostile.html and large.html;
// it gets screenshots.

import { strict as assert } from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { statSync } from "node:fs";
import { join } from "node:path";

const [directory, executablePath] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const checks = [];

async function open(name, { width = 1360, height = 1000, dark = false, ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", offline: true, bypassCSP: false, ...more });
  const page = await context.newPage();
  const bad = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && bad.push(message.text()));
  page.on("pageerror", (error) => bad.push(String(error)));
  page.on("request", (request) => !/^(file|data):/.test(request.url()) && bad.push(`request: ${request.url()}`));
  page.on("dialog", (dialog) => bad.push(`dialog: ${dialog.message()}`));
  await page.goto(pathToFileURL(join(directory, `${name}.html`)).href);
  await page.waitForSelector("html[data-ready]");
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const took = Math.round(await page.evaluate(() => performance.now()));
  return { page, bad, took, close: async () => {
    assert.deepEqual(bad, [], `${name}: errors in the console`);
    await context.close();
  } };
}

async function check(name, action) {
  await action();
  checks.push(name);
  console.log(`ok  ${name}`);
}

const shot = (page, name, options = {}) => page.screenshot({ path: join(directory, `${name}.png`), ...options });

/** The policy of the page forbids scripts from elsewhere, so axe comes through the debugger. */
async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes.length} (${one.nodes.slice(0, 3).map((node) => node.target.join(" ")).join(", ")})`);
}

for (const name of ["image", "compare", "store", "hostile", "large"]) {
  const times = [];
  for (const dark of [false, true]) {
    await check(`${name}${dark ? ", dark" : ""}: opens from disk, without network, errors and what axe finds`, async () => {
      const { page, took, close } = await open(name, { dark });
      assert.deepEqual(await violations(page), []);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = background.match(/\d+/g).reduce((sum, one) => sum + Number(one), 0) > 380;
      assert.equal(light, !dark, background);
      await shot(page, `${name}-${dark ? "dark" : "light"}`);
      await shot(page, `${name}-${dark ? "dark" : "light"}-whole`, { fullPage: true });
      assert.ok(statSync(join(directory, `${name}.html`)).size < 1e6, "larger than 1 MB");
      console.log(`    ${took} ms, ${statSync(join(directory, `${name}.html`)).size} bytes, heap ${await page.evaluate(() => Math.round(performance.memory.usedJSHeapSize / 1e6))} MB`);
      times.push(took);
      await close();
    });
  }
  // The shorter time: other programs may be busy.
  await check(`${name}: can be read within 2 s`, async () => assert.ok(Math.min(...times) < 2000, times.join()));
  await check(`${name}: fits a narrow screen`, async () => {
    const { page, close } = await open(name, { width: 390, height: 844 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
    assert.deepEqual(await violations(page), []);
    await shot(page, `${name}-narrow`, { fullPage: true });
    await close();
  });
}

await check("zoom with the mouse, and back by the place above", async () => {
  const { page, close } = await open("image");
  const crumb = () => page.textContent("#sizes .crumbs [aria-current]");
  assert.equal(await crumb(), "/");
  await page.click("#sizes .map button.dir >> nth=0", { position: { x: 20, y: 8 } });
  assert.notEqual(await crumb(), "/");
  await shot(page, "image-zoomed");
  await page.click("#sizes .crumbs button >> nth=0");
  assert.equal(await crumb(), "/");
  await page.hover("#sizes .map button >> nth=0", { position: { x: 20, y: 8 } });
  assert.ok(await page.isVisible("#tip"));
  await close();
});

await check("zoom with the keyboard", async () => {
  const { page, close } = await open("image");
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") || "");
  const crumb = () => page.textContent("#sizes .crumbs [aria-current]");
  await page.focus("#sizes .map button[tabindex='0']");
  const first = await focused();
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await focused(), first);
  assert.equal(await page.evaluate(() => document.querySelectorAll("#sizes .map button[tabindex='0']").length), 1);
  for (const key of ["ArrowLeft", "ArrowUp", "ArrowLeft", "ArrowUp"]) await page.keyboard.press(key);
  await page.keyboard.press("Enter");
  assert.notEqual(await crumb(), "/");
  assert.ok(await page.evaluate(() => document.activeElement.closest(".map") !== null), "the focus is lost");
  await page.keyboard.press("Escape");
  assert.equal(await crumb(), "/");
  assert.ok((await focused()).length > 0);
  await close();
});

await check("by layer, and the highlight of a layer", async () => {
  const { page, close } = await open("image");
  await page.click('#sizes .choice button:has-text("By layer")');
  assert.match(await page.textContent("#sizes .map"), /Layer \d/);
  await shot(page, "image-by-layer");
  await page.click('#sizes .choice button:has-text("By directory")');
  await page.click("#layers .segment >> nth=1");
  assert.equal(await page.getAttribute("#sizes .chip >> nth=1", "aria-pressed"), "true");
  assert.ok((await page.locator("#sizes .tile.faint").count()) > 0);
  await page.click("#sizes .chip >> nth=1");
  assert.equal(await page.locator("#sizes .tile.faint").count(), 0);
  await close();
});

await check("search by keyboard finds a file and shows where it is", async () => {
  const { page, close } = await open("image");
  await page.keyboard.press("/");
  await page.keyboard.type("status dpkg");
  assert.match(await page.textContent(".found"), /result/);
  await shot(page, "image-search");
  assert.deepEqual(await violations(page), []);
  await page.fill("#search", "/dpkg/status");
  await page.keyboard.press("Enter");
  assert.equal(await page.textContent("#sizes .crumbs [aria-current]"), "dpkg");
  assert.match(await page.textContent("#sizes tr.marked"), /status/);
  await page.keyboard.press("/");
  await page.keyboard.type("no such thing anywhere");
  assert.match(await page.textContent(".found"), /^0 results/);
  await page.keyboard.press("Escape");
  assert.ok(!(await page.isVisible(".results")));
  await close();
});

await check("tables are sorted, and shown whole", async () => {
  const { page, close } = await open("image");
  const sizes = () => page.locator("#packages tbody tr td:first-child").allTextContents();
  await page.click("#packages th button >> nth=0");
  const names = await sizes();
  assert.deepEqual(names, names.slice().sort());
  assert.equal(await page.getAttribute("#packages th >> nth=0", "aria-sort"), "ascending");
  await page.click("#packages .more");
  assert.ok((await sizes()).length > names.length);
  await close();
});

await check("the comparison has what came, went and grew", async () => {
  const { page, close } = await open("compare");
  const rows = () => page.locator("#comparison .table >> nth=0").locator("tbody tr").count();
  assert.ok((await rows()) > 0);
  for (const kind of ["came", "went", "grew"]) {
    await page.click(`#comparison .choice button:has-text("${kind}")`);
    const words = await page.locator("#comparison .table >> nth=0").locator("tbody tr td:nth-child(2)").allTextContents();
    assert.ok(words.length && words.every((word) => word === kind), words.join());
  }
  assert.ok((await page.locator("#sizes .tile.change").count()) > 0);
  await close();
});

await check("the theme is chosen, and kept", async () => {
  const { page, close } = await open("image");
  await page.click(".theme");
  await page.click(".theme");
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  assert.deepEqual(await violations(page), []);
  await close();
});

await check("print", async () => {
  const { page, close } = await open("image", { dark: true });
  await page.pdf({ path: join(directory, "image.pdf"), format: "A4", printBackground: true });
  await page.emulateMedia({ media: "print" });
  assert.ok(!(await page.isVisible(".tools")));
  await shot(page, "image-print", { fullPage: true });
  await close();
});

await check("hostile names are text", async () => {
  const { page, close } = await open("hostile");
  const text = await page.textContent("#sizes");
  for (const name of ["script><script>alert(1)<", "<!--x", "line\\u2028sep", "caf\\udce9", "a\\u202egnp.exe"]) assert.ok(text.includes(name), name);
  assert.equal(await page.locator("img").count(), 0);
  await close();
});

await check("the policy stops what is not the page's own", async () => {
  const { page, bad } = await open("image");
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.ran = true";
    document.body.append(script);
    const image = document.createElement("img");
    image.src = "https://example.com/x.png";
    document.body.append(image);
  });
  await page.waitForTimeout(200);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  assert.ok(bad.filter((one) => /Content Security Policy/.test(one)).length >= 2, bad.join("\n"));
});

await check("without scripts the page says so", async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(pathToFileURL(join(directory, "image.html")).href);
  assert.match(await page.textContent("main"), /allow scripts/);
  await context.close();
});

await browser.close();
console.log(`${checks.length} checks`);

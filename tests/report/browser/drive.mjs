// Opens pages of reports from disk in a real browser, uses them, and fails if anything is wrong.
//
// node drive.mjs DIRECTORY BROWSER: the directory has image.html, compare.html, store.html, hostile.html, rules.html and
// large.html; it gets screenshots.

import { strict as assert } from "node:assert";
import { createServer } from "node:http";
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
  return { page, bad, took, busy: await busy(context, page), close: async () => {
    assert.deepEqual(bad, [], `${name}: errors in the console`);
    await context.close();
  } };
}

/** The milliseconds that the processor has worked for a page: other programs do not make them more. */
async function busy(context, page) {
  const session = await context.newCDPSession(page);
  await session.send("Performance.enable");
  const { metrics } = await session.send("Performance.getMetrics");
  return Math.round(1000 * metrics.find((one) => one.name === "ProcessTime").value);
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

for (const name of ["image", "compare", "store", "hostile", "rules", "large"]) {
  for (const dark of [false, true]) {
    await check(`${name}${dark ? ", dark" : ""}: opens from disk, without network, errors and what axe finds`, async () => {
      const { page, took, busy, close } = await open(name, { dark });
      // Of the processor: how long it takes on the clock depends on other programs, too.
      assert.ok(busy < 2000, `cannot be read within 2 s: ${busy} ms of the processor`);
      assert.deepEqual(await violations(page), []);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = background.match(/\d+/g).reduce((sum, one) => sum + Number(one), 0) > 380;
      assert.equal(light, !dark, background);
      await shot(page, `${name}-${dark ? "dark" : "light"}`);
      await shot(page, `${name}-${dark ? "dark" : "light"}-whole`, { fullPage: true });
      assert.ok(statSync(join(directory, `${name}.html`)).size < 1e6, "larger than 1 MB");
      console.log(`    ${took} ms (${busy} ms of the processor), ${statSync(join(directory, `${name}.html`)).size} bytes, heap ${await page.evaluate(() => Math.round(performance.memory.usedJSHeapSize / 1e6))} MB`);
      await close();
    });
  }
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

await check("search finds a row of a table that is not shown yet", async () => {
  const { page, close } = await open("image");
  assert.equal(await page.locator("#packages tr", { hasText: "package-7" }).count(), 0);
  await page.fill("#search", "package-7");
  await page.keyboard.press("Enter");
  assert.match(await page.textContent("#packages tr.marked"), /package-7/);
  assert.match(await page.evaluate(() => document.activeElement.textContent), /package-7/);
  await close();
});

await check("search finds what the second image does not have", async () => {
  const { page, close } = await open("compare");
  const { comparison: { files } } = JSON.parse(await page.textContent("#data"));
  const gone = files.filter((one) => one.kind === "deleted").at(-1).path;
  await page.fill("#search", gone);
  assert.match(await page.textContent(".found"), /^1 result/);
  await page.keyboard.press("Enter");
  assert.ok((await page.textContent("#comparison tr.marked")).includes(gone));
  await close();
});

await check("search says how many files it cannot find", async () => {
  for (const name of ["image", "large"]) {
    const { page, close } = await open(name);
    const { image } = JSON.parse(await page.textContent("#data"));
    const plain = (text) => text.replaceAll("\u202f", "");
    // All paths begin with a slash. Of a small image all are found, and of a large one the rest is said to be missing.
    await page.fill("#search", "/");
    const all = plain(await page.textContent(".found"));
    const missing = Number(all.match(/not searched: (\d+) small file/)?.[1] || 0);
    const besides = image.wasted_files.length + image.layers.filter((one) => one.created_by.includes("/")).length;
    assert.equal(Number(all.match(/^(\d+) result/)[1]) + missing, image.entries + besides, all);
    assert.equal(missing > 0, name === "large");
    await page.fill("#search", "no-such-thing");
    assert.equal(/small files, which only layerstore report --json has/.test(await page.textContent(".found")), name === "large");
    assert.equal(await page.isVisible("text=small files are folded into their directories"), name === "large");
    if (name === "large") await shot(page, "large-search");
    await close();
  }
});

await check("the rules of a report, the failed ones first", async () => {
  const { page, close } = await open("rules");
  assert.equal(await page.textContent("#rules p"), "2 of 3 rules failed.");
  assert.deepEqual(await page.locator("#rules tbody tr td:nth-child(1)").allTextContents(), ["✗ failed", "✗ failed", "✓ passed"]);
  assert.deepEqual(await page.locator("#rules tbody code").allTextContents(), ["--max wasted=1%", "--max layers=2", "--fail-under efficiency=20%"]);
  assert.match(await page.textContent("#rules tbody tr td:nth-child(2)"), /^wasted is .*, at most 1% \(.*\) is allowed --max wasted=1%$/);
  assert.equal(await page.textContent("nav.sections a >> nth=0"), "Rules");
  await close();
  const other = await open("image");
  assert.equal(await other.page.locator("#rules").count(), 0);
  await other.close();
});

await check("the page says which version has made it", async () => {
  const { page, close } = await open("image");
  assert.match(await page.textContent("#foot"), /^Made by layerstore \d+\.\d+/);
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

/** Try to run and to load what is not the page's own: what the policy has refused, and what happened all the same. */
async function intrude(page) {
  const reached = [];
  const server = createServer((request, response) => {
    reached.push(request.url);
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const elsewhere = `http://127.0.0.1:${server.address().port}`;
  const refused = await page.evaluate(async (place) => {
    const found = [];
    document.addEventListener("securitypolicyviolation", (event) => found.push(`${event.effectiveDirective} ${event.blockedURI}`));
    const add = (tag, props) => document.body.append(Object.assign(document.createElement(tag), props));
    add("script", { textContent: "globalThis.ran = true" });
    add("script", { src: `${place}/script` });
    add("style", { textContent: "main { display: none }" });
    add("img", { src: `${place}/image` });
    add("iframe", { src: `${place}/frame` });
    add("div", { innerHTML: "<i onclick=1></i>" });
    await fetch(`${place}/fetched`).catch(() => null);
    await new Promise((done) => setTimeout(done, 300));
    return found.map((one) => one.replace(place, "")).sort();
  }, elsewhere);
  const ran = await page.evaluate(() => Boolean(globalThis.ran));
  server.close();
  return { refused, ran, hidden: !(await page.isVisible("main")), reached: reached.sort() };
}

await check("the policy refuses what is not the page's own", async () => {
  const { page } = await open("image", { offline: false });
  assert.deepEqual(await intrude(page), {
    refused: [
      "connect-src /fetched", "frame-src ", "img-src /image", "script-src-attr inline", "script-src-elem /script",
      "script-src-elem inline", "style-src-elem inline",
    ],
    ran: false, hidden: false, reached: [],
  });
  await page.context().close();
});

await check("and it is the policy that does so", async () => {
  const { page } = await open("image", { offline: false, bypassCSP: true });
  const all = { refused: [], ran: true, hidden: true, reached: ["/fetched", "/frame", "/image", "/script"] };
  assert.deepEqual(await intrude(page), all);
  await page.context().close();
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

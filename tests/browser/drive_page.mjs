// Uses the page as a person would and prints what it showed, as JSON.
//   node drive_page.mjs PAGE_FOLDER CHROMIUM OUTPUT_FOLDER IMAGE... [VIDEO.webm]
// Milliseconds: firstDetection, from opening the page a second time to the boxes; network, the
// median of a frame.

import { createRequire } from "node:module";
import { join } from "node:path";
import { serveFolder } from "../../tools/browser/folder_server.mjs";

const tools = createRequire(new URL("../../tools/browser/package.json", import.meta.url));
const { chromium } = tools("playwright-core");

const [folder, browserFile, output, ...files] = process.argv.slice(2);
const images = files.filter((name) => !name.endsWith(".webm"));
const video = files.find((name) => name.endsWith(".webm"));
const REPEATS = 9;
const server = await serveFolder(folder);
const { address } = server;

const browser = await chromium.launch({
  executablePath: browserFile,
  args: [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    ...(process.env.CHROMIUM_ARGS ?? "").split(" "),
  ],
});
const context = await browser.newContext({ viewport: { width: 1000, height: 760 } });
const page = await context.newPage();
const report = { errors: [], elsewhere: [], images: {} };
page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));
page.on("pageerror", (error) => report.errors.push(String(error)));
context.on("request", (request) => {
  if (!request.url().startsWith(address) && !/^(blob|data):/.test(request.url())) {
    report.elsewhere.push(request.url());
  }
});

const status = () => page.locator("#status").textContent();
const ready = () => page.waitForFunction(() => document.documentElement.dataset.ready, null, { timeout: 120000 });
const done = (path) =>
  page.waitForFunction(
    (name) => document.getElementById("status").textContent.startsWith(`${name}: `),
    path.split("/").pop(),
    { timeout: 60000 },
  );
const found = () =>
  page.locator("#found li").evaluateAll((items) =>
    items.map(({ dataset: { name, score, box } }) => ({ name, score: Number(score), box: JSON.parse(box) })),
  );

async function choose(path) {
  await page.setInputFiles("#file", path);
  await done(path);
  return found();
}

await page.goto(address);
await ready();
report.ready = await status();
report.isolated = await page.evaluate(() => self.crossOriginIsolated);

// A second visit, on which all files come from the cache
const start = Date.now();
await page.reload();
await page.setInputFiles("#file", images[0]);
await done(images[0]);
report.firstDetection = Date.now() - start;
for (const path of images) report.images[path] = await choose(path);
report.summary = await status();
const networks = [];
for (let repeat = 0; repeat < REPEATS; repeat++) {
  await choose(images[repeat % images.length]);
  networks.push(Number(await page.locator("#times").getAttribute("data-network")));
}
report.network = networks.sort((a, b) => a - b)[REPEATS >> 1];
await choose(images[0]);
await page.screenshot({ path: join(output, "page.png") });

// By keyboard alone: the file input, the buttons and the slider are reached, and the slider works
const reached = [];
await page.locator("body").press("Tab");
for (let step = 0; step < 3; step++) {
  reached.push(await page.evaluate(() => document.activeElement.id));
  await page.keyboard.press("Tab");
}
report.reached = reached;
await page.locator("#threshold").focus();
for (let step = 0; step < 20; step++) await page.keyboard.press("ArrowRight");
report.threshold = await page.locator("#shown").textContent();
report.above = await found();
for (let step = 0; step < 13; step++) await page.keyboard.press("ArrowLeft");

await page.setViewportSize({ width: 320, height: 568 });
report.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
await page.screenshot({ path: join(output, "small.png") });
await page.setViewportSize({ width: 1000, height: 760 });

const frames = () => page.waitForFunction(() => /frames/.test(document.getElementById("times").textContent), null, { timeout: 60000 });
await page.locator("#camera").press("Enter");
await frames();
report.camera = await status();
await page.locator("#camera").press("Enter");
if (video) {
  await page.setInputFiles("#file", video);
  await frames();
  await done(video);
  report.video = await page.locator("#times").textContent();
}
await page.setInputFiles("#file", { name: "broken.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no image") });
await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Error"));
report.broken = await status();

server.close();
await context.setOffline(true);
await page.reload();
await ready();
report.offline = await choose(images[0]);
await browser.close();
process.stdout.write(JSON.stringify(report));

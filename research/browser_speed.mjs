// Opens the page in headless Chromium and detects in an image for each line of standard input.
//   node browser_speed.mjs PAGE_FOLDER CHROMIUM IMAGE
// Prints {"engine", "firstDetection"} and then {"preprocessing", "network"} a line, in milliseconds.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { serveFolder } from "../tools/browser/folder_server.mjs";

const tools = createRequire(new URL("../tools/browser/package.json", import.meta.url));
const { chromium } = tools("playwright-core");
const [folder, executablePath, image] = process.argv.slice(2);

const server = await serveFolder(folder);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

await page.goto(server.address);
await page.waitForFunction(() => document.documentElement.dataset.ready);
// A second visit: files come from the cache, and the page has threads
const start = performance.now();
await page.reload();
await page.setInputFiles("#file", image);
const ended = (name) => document.getElementById("status").textContent.startsWith(`${name}: `);
await page.waitForFunction(ended, basename(image));
const firstDetection = performance.now() - start;
const engine = await page.evaluate(() => document.documentElement.dataset.ready);
print({ engine, firstDetection });

const pixels = readFileSync(image).toString("base64");
await page.evaluate(async (data) => {
  const { detect } = await import("./detector.js"); // the page's own, which is open
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]));
  let moving = bitmap;
  self.frame = async () => {
    const { bitmap: back, preprocessing, network } = await detect(moving);
    moving = back;
    return { preprocessing, network };
  };
}, pixels);
for await (const line of createInterface({ input: process.stdin })) {
  if (line) print(await page.evaluate(() => self.frame()));
}
await browser.close();
server.close();

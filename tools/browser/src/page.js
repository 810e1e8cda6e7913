// The page: one source at a time goes through the detector onto the canvas.

import { detect, openDetector } from "./detector.js";
import { draw } from "./drawing.js";
import { keepOffline } from "./offline.js";
import { openCamera, openImage, openVideo } from "./sources.js";

const element = (id) => document.getElementById(id);
const [canvas, stage, status, times, found] = ["canvas", "stage", "status", "times", "found"].map(element);
const [file, camera, stop, threshold, shown] = ["file", "camera", "stop", "threshold", "shown"].map(element);

const CAMERA = "the camera";

let current = null; // the source
let turn = 0; // grows with each source that is chosen or closed
let last = null; // what the detector found in its newest bitmap
let engine = "";
let resolveReady;
const ready = new Promise((resolve) => (resolveReady = resolve));

function say(text) {
  status.textContent = text;
}

function detectionsAbove() {
  return last.detections.filter(({ score }) => score > Number(threshold.value));
}

// As `igcv3det predict` prints it: "2 person, 1 dog"
function summary() {
  const counts = new Map();
  for (const { name } of detectionsAbove()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(", ") || "nothing";
}

function show() {
  if (!last) return;
  const above = detectionsAbove();
  draw(canvas, last.bitmap, above);
  stage.classList.add("filled");
  const texts = above.map(({ name, score }) => `${name} ${score.toFixed(2)}`);
  canvas.setAttribute("aria-label", texts.length ? `Image with ${texts.join(", ")}` : "Image without objects");
  found.replaceChildren(
    ...above.map(({ name, score, box }, row) => {
      const item = document.createElement("li");
      item.textContent = texts[row];
      item.title = `box ${box.map((side) => Math.round(side)).join(", ")}`;
      Object.assign(item.dataset, { name, score, box: JSON.stringify(box) });
      return item;
    }),
  );
}

function showTimes(frame) {
  const { preprocessing, network } = last;
  const parts = [`network ${network.toFixed(0)} ms`, `preprocessing ${preprocessing.toFixed(0)} ms`];
  if (frame) parts.push(`${(1000 / frame).toFixed(1)} frames/s`);
  times.textContent = `${parts.join(", ")} (${engine})`;
  Object.assign(times.dataset, { network, preprocessing });
}

function close() {
  turn += 1;
  current?.close();
  current = null;
  camera.setAttribute("aria-pressed", "false");
  stop.disabled = true;
}

// Runs a source to its end, or until another one takes its place
async function run(opening, name) {
  close();
  const own = turn;
  try {
    say(`Opening ${name} …`);
    const source = await opening();
    if (own !== turn) return source.close(); // another one was chosen in the meantime
    current = source;
    stop.disabled = !source.live;
    camera.setAttribute("aria-pressed", String(name === CAMERA));
    await ready;
    if (own === turn) say(`Detecting in ${name} …`);
    await detectAll(source, () => own === turn);
    if (own !== turn) return;
    close();
    say(`${name}: ${source.live ? "ended" : summary()}`);
  } catch (error) {
    if (own !== turn) return;
    close();
    say(`Error: ${error.message}`);
  }
}

async function detectAll(source, isCurrent) {
  let before = performance.now();
  for (let bitmap; isCurrent() && (bitmap = await source.next()); ) {
    const result = await detect(bitmap);
    if (!isCurrent()) return;
    last?.bitmap.close();
    last = result;
    show();
    const now = performance.now();
    showTimes(source.live ? now - before : 0);
    before = now;
  }
}

function runFile(blob) {
  const opening = blob.type.startsWith("video/") ? openVideo : openImage;
  return run(() => opening(blob), blob.name ?? "the image");
}

function firstFile(transfer) {
  return [...(transfer?.files ?? [])][0];
}

file.addEventListener("change", () => file.files[0] && runFile(file.files[0]));
camera.addEventListener("click", () => {
  if (camera.getAttribute("aria-pressed") === "true") close();
  else run(openCamera, CAMERA);
});
stop.addEventListener("click", close);
document.addEventListener("keydown", (event) => event.key === "Escape" && close());
threshold.addEventListener("input", () => {
  shown.value = Number(threshold.value).toFixed(2);
  show();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", () => stage.classList.remove("over"));
for (const [kind, transferOf] of [
  ["drop", (event) => event.dataTransfer],
  ["paste", (event) => event.clipboardData],
]) {
  document.addEventListener(kind, (event) => {
    stage.classList.remove("over");
    const blob = firstFile(transferOf(event));
    if (kind === "drop" || blob) event.preventDefault();
    if (blob) runFile(blob);
  });
}

const offline = await keepOffline();
try {
  engine = await openDetector();
  say(`Ready: ${engine}${offline ? ", works offline" : ""}`);
  resolveReady();
} catch (error) {
  say(`Error: ${error.message}`);
}
document.documentElement.dataset.ready = engine;

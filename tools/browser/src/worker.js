// The detector, in a thread of its own: bitmaps in, detections out.
// A classic worker, no module: LiteRT's loader calls importScripts.

importScripts("files.js"); // written by the build

const BASE = new URL(".", self.location.href).href;
const RUNTIME = `${BASE}runtime/`;
const MOST_THREADS = 8; // more do not help a network of this size

let parts; // modules of the page
let description;
let engine;

async function readModel(name) {
  const reply = await fetch(`${BASE}${name}`);
  if (!reply.ok) throw new Error(`${name}: ${reply.status} ${reply.statusText}`);
  return new Uint8Array(await reply.arrayBuffer());
}

// The precision that the adapter of WebGPU can compute in; null without one
async function webgpu() {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? { hasFloat16: adapter.features.has("shader-f16") } : null;
}

async function openWith(name, provider, adapter) {
  const model = await readModel(name);
  description = parts.readDescription(model);
  if (adapter && description.precision === "fp16" && !adapter.hasFloat16) {
    throw new Error("the adapter has no float16");
  }
  const cores = Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
  const threads = self.crossOriginIsolated ? cores : 1;
  const open = name.endsWith(".tflite") ? parts.openLitert : parts.openOnnx;
  engine = await open(model, description, { provider, threads, runtime: RUNTIME });
  const { size } = description;
  await engine.run(new Float32Array(3 * size * size)); // the first run is slower than the others
  return engine.name;
}

async function open() {
  const modules = ["description", "preprocess", "engine_onnx", "engine_litert"];
  const loaded = await Promise.all(modules.map((name) => import(`${BASE}${name}.js`)));
  parts = Object.assign({}, ...loaded);
  const { models } = self.FILES;
  const onnx = models.find((name) => name.endsWith(".onnx"));
  const adapter = onnx ? await webgpu() : null;
  if (adapter) {
    try {
      return await openWith(onnx, "webgpu", adapter);
    } catch (error) {
      console.warn("WebGPU cannot run the detector, WASM does:", error);
    }
  }
  return openWith(models.find((name) => name.endsWith(".tflite")) ?? onnx, "wasm", null);
}

function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// Detections with boxes xyxy in pixels of the bitmap, best first
function detectionsOf({ boxes, scores, labels }, { width, height }) {
  const { size, names } = description;
  const scale = [width / size, height / size, width / size, height / size];
  return scores.map((score, row) => ({
    name: names[labels[row] - 1],
    label: labels[row],
    score,
    box: scale.map((factor, side) => boxes[row][side] * factor),
  }));
}

async function detect(bitmap) {
  const start = performance.now();
  const planes = parts.preprocess(pixelsOf(bitmap), description);
  const ready = performance.now();
  const outputs = await engine.run(planes);
  const detections = detectionsOf(outputs, bitmap);
  return { detections, preprocessing: ready - start, network: performance.now() - ready };
}

self.onmessage = async ({ data: { id, bitmap } }) => {
  try {
    const result = bitmap ? await detect(bitmap) : await open();
    self.postMessage({ id, result, bitmap }, bitmap ? [bitmap] : []);
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
};

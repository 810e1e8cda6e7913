// The detector, in a thread of its own: bitmaps in, detections out.

import { readDescription } from "./description.js";
import { preprocess } from "./preprocess.js";

const RUNTIME = new URL("runtime/", import.meta.url).href;
const MODEL = new URL("model.onnx", import.meta.url).href;
const ERRORS_ONLY = 3;
const MOST_THREADS = 8; // more do not help a network of this size

let description;
let session;
let Tensor;

async function webgpuComputes(precision) {
  const adapter = await navigator.gpu?.requestAdapter();
  return Boolean(adapter && (precision !== "fp16" || adapter.features.has("shader-f16")));
}

async function openWith(provider, model) {
  const ort = await import(`${RUNTIME}ort.${provider}.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = RUNTIME;
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
    : 1;
  session = await ort.InferenceSession.create(model, {
    executionProviders: [provider],
    logSeverityLevel: ERRORS_ONLY,
  });
  Tensor = ort.Tensor;
  const { size } = description;
  await infer(new Float32Array(3 * size * size)); // the first run is slower than the others
  return provider === "webgpu" ? "WebGPU" : `WASM, threads: ${ort.env.wasm.numThreads}`;
}

async function open() {
  const reply = await fetch(MODEL);
  if (!reply.ok) throw new Error(`model.onnx: ${reply.status} ${reply.statusText}`);
  const model = new Uint8Array(await reply.arrayBuffer());
  description = readDescription(model);
  if (await webgpuComputes(description.precision)) {
    try {
      return await openWith("webgpu", model);
    } catch (error) {
      console.warn("WebGPU cannot run the detector, WASM does:", error);
    }
  }
  return openWith("wasm", model);
}

function infer(planes) {
  const { size } = description;
  return session.run({ images: new Tensor("float32", planes, [1, 3, size, size]) });
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
  return Array.from(scores.data, (score, row) => ({
    name: names[Number(labels.data[row]) - 1],
    label: Number(labels.data[row]),
    score,
    box: scale.map((factor, side) => boxes.data[row * 4 + side] * factor),
  }));
}

async function detect(bitmap) {
  const start = performance.now();
  const planes = preprocess(pixelsOf(bitmap), description);
  const ready = performance.now();
  const outputs = await infer(planes);
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

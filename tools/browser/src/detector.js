// The detector of worker.js as functions that return promises.

let worker;
let nextId = 0;
const waiting = new Map();

function ask(message, transfer = []) {
  const id = nextId++;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...message }, transfer);
  });
}

/** Loads the detector; resolves to what computes it, such as "WebGPU". */
export function openDetector() {
  worker = new Worker("worker.js");
  worker.onmessage = ({ data: { id, error, ...reply } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(reply);
    else reject(new Error(error));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    const error = new Error(event.message ?? "the detector could not be loaded");
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  return ask({}).then(({ result }) => result);
}

/**
 * Detects the objects of a bitmap, which moves to the worker and comes back.
 *
 * @param {ImageBitmap} bitmap
 * @returns {Promise<{bitmap: ImageBitmap, detections: {name: string, label: number,
 *   score: number, box: number[]}[], preprocessing: number, network: number}>} boxes xyxy in
 *   pixels of the bitmap, best first; times in milliseconds.
 */
export async function detect(bitmap) {
  const { result, bitmap: own } = await ask({ bitmap }, [bitmap]);
  return { bitmap: own, ...result };
}

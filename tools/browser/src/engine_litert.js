// LiteRT: files without NMS, on WASM. XNNPACK has kernels for WebAssembly's 8-bit dot products and
// fused multiply-adds (relaxed SIMD), which ONNX Runtime's WebAssembly does not use.

import { selectDetections } from "./nms.js";

/**
 * @param {Uint8Array} model content of a .tflite.
 * @param {object} description of it, by `readDescription`.
 * @param {{threads: number, runtime: string}} options runtime: URL of the folder with the library.
 * @returns as `openOnnx`.
 */
export async function openLitert(model, description, { threads, runtime }) {
  const litert = await import(`${runtime}litert.js`);
  const withThreads = threads > 1 && (await load(litert, runtime, true));
  if (!withThreads && !(await load(litert, runtime, false))) throw new Error("WebAssembly cannot be used");
  const used = withThreads ? threads : 1;
  const network = await litert.loadAndCompile(model, {
    accelerator: "wasm",
    cpuOptions: { numThreads: used },
  });
  const { size } = description;
  const run = async (planes) => {
    const input = new litert.Tensor(planes, [1, 3, size, size]);
    const outputs = await network.run(input);
    try {
      const [boxes, scores] = outputs.map((output) => output.toTypedArray());
      return selectDetections(boxes, scores, description);
    } finally {
      for (const tensor of [input, ...outputs]) tensor.delete();
    }
  };
  return { name: `LiteRT, WASM, threads: ${used}`, run };
}

async function load(litert, runtime, threads) {
  // Read by the library's loader; its threads start from a script of its own
  self.Module = {
    locateFile: (name) => `${runtime}${name}`,
    mainScriptUrlOrBlob: `${runtime}litert_wasm_threaded_internal.js`,
    print: () => {},
    printErr: () => {},
  };
  try {
    await litert.loadLiteRt(runtime, { threads });
    return true;
  } catch (error) {
    console.warn(`LiteRT ${threads ? "with threads" : "on one thread"} cannot be used:`, error);
    return false;
  }
}

// ONNX Runtime: files with NMS in the graph, on WebGPU or WASM.

const ERRORS_ONLY = 3;

/**
 * @param {Uint8Array} model content of an .onnx.
 * @param {object} description of it, by `readDescription`.
 * @param {{provider: "webgpu" | "wasm", threads: number, runtime: string}} options runtime: URL of
 *   the folder with the library.
 * @returns {Promise<{name: string, run: (planes: Float32Array) => Promise<object>}>} run: from
 *   [3, S, S] to `{boxes, scores, labels}` as `selectDetections` returns them.
 */
export async function openOnnx(model, { size }, { provider, threads, runtime }) {
  const ort = await import(`${runtime}ort.${provider}.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = runtime;
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [provider],
    logSeverityLevel: ERRORS_ONLY,
  });
  const run = async (planes) => {
    const input = new ort.Tensor("float32", planes, [1, 3, size, size]);
    const { boxes, scores, labels } = await session.run({ images: input });
    return {
      boxes: Array.from(scores.data, (_, row) => Array.from(boxes.data.subarray(4 * row, 4 * row + 4))),
      scores: Array.from(scores.data),
      labels: Array.from(labels.data, Number),
    };
  };
  const engine = provider === "webgpu" ? "WebGPU" : `WASM, threads: ${threads}`;
  return { name: `ONNX Runtime, ${engine}`, run };
}

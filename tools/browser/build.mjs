// Builds the page: npm ci && npm run build [-- --model FILE.onnx --output DIR]
//
// Copies src/, the files of onnxruntime-web that the page loads, and the detector. Without --model
// the default weights are exported by `igcv3det export`; PYTHON names the interpreter.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const CLONE = resolve(HERE, "..", "..");
const RUNTIME = join(HERE, "node_modules", "onnxruntime-web", "dist");
// Everybody needs the first; the second, twice as large, is fetched by browsers with WebGPU
const WASM = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const WEBGPU = [
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    precision: { type: "string", default: "fp16" },
    output: { type: "string", default: join(CLONE, "build", "browser") },
  },
});
const output = resolve(options.output);

function python() {
  const own = join(CLONE, ".venv", "bin", "python");
  return process.env.PYTHON ?? (existsSync(own) ? own : "python3");
}

function writeModel(file) {
  if (options.model) {
    cpSync(options.model, file);
    return;
  }
  const args = ["-m", "igcv3det", "export", "--nms", "--precision", options.precision];
  execFileSync(python(), [...args, "--output", file], { cwd: CLONE, stdio: "inherit" });
  rmSync(`${file}.parity.json`);
}

// What the service worker keeps, and a version that changes with the content of any file
function writeFileList() {
  const own = readdirSync(join(HERE, "src")).filter((name) => name !== "service_worker.js");
  const core = [...own, "model.onnx", ...WASM.map((name) => `runtime/${name}`)];
  const onDemand = WEBGPU.map((name) => `runtime/${name}`);
  const hash = createHash("sha256");
  for (const name of [...core, ...onDemand, "service_worker.js"]) {
    hash.update(name).update(readFileSync(join(output, name)));
  }
  const files = { version: hash.digest("hex").slice(0, 16), core, onDemand };
  writeFileSync(join(output, "files.js"), `self.FILES = ${JSON.stringify(files)};\n`);
}

if (!existsSync(RUNTIME)) {
  console.error("build: onnxruntime-web is not installed: npm ci");
  process.exit(1);
}
mkdirSync(join(output, "runtime"), { recursive: true });
cpSync(join(HERE, "src"), output, { recursive: true });
for (const name of [...WASM, ...WEBGPU]) cpSync(join(RUNTIME, name), join(output, "runtime", name));
writeModel(join(output, "model.onnx"));
writeFileList();
console.log(`Page is in ${output}`);

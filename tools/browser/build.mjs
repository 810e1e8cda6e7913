// Builds the page: npm ci && npm run build [-- --model FILE.onnx --model FILE.tflite --output DIR]
//
// Copies src/, the libraries that the page loads, and the detector: an .onnx (--nms) for WebGPU, a
// .tflite for WebAssembly, or one of them for both. Without --model the default weights are exported
// by `igcv3det export`; PYTHON names the interpreter. The .tflite is left out where Python has no
// litert-torch; it is in float32, or in 8 bits with --calibration DIR, a folder of photographs.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const CLONE = resolve(HERE, "..", "..");
const RUNTIME = join(HERE, "node_modules", "onnxruntime-web", "dist");
const LITERT = join(HERE, "node_modules", "@litertjs");
const ONNX_WASM = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const ONNX_WEBGPU = [
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];
const WITH_THREADS = ["js", "wasm"].map((kind) => `litert_wasm_threaded_internal.${kind}`);
// For pages without threads, and for browsers without relaxed SIMD
const WITHOUT_THREADS = ["litert_wasm_internal", "litert_wasm_compat_internal"].flatMap((name) =>
  ["js", "wasm"].map((kind) => `${name}.${kind}`),
);

const MODELS = ["model.onnx", "model.tflite"];

const { values: options } = parseArgs({
  options: {
    model: { type: "string", multiple: true },
    precision: { type: "string", default: "fp16" }, // of the .onnx
    calibration: { type: "string" },
    output: { type: "string", default: join(CLONE, "build", "browser") },
  },
});
const output = resolve(options.output);

function python() {
  const own = join(CLONE, ".venv", "bin", "python");
  return process.env.PYTHON ?? (existsSync(own) ? own : "python3");
}

function runPython(...args) {
  execFileSync(python(), args, { cwd: CLONE, stdio: "inherit" });
}

function hasLitert() {
  try {
    execFileSync(python(), ["-c", "import importlib.util as i; raise SystemExit(not i.find_spec('litert_torch'))"]);
    return true;
  } catch {
    console.warn("build: Python has no litert-torch, so WebAssembly runs the .onnx, which is slower");
    return false;
  }
}

// Names of the models in the page
function writeModels() {
  const names = [];
  const exportAs = (name, ...args) => {
    runPython("-m", "igcv3det", "export", ...args, "--output", join(output, name));
    rmSync(join(output, `${name}.parity.json`));
    names.push(name);
  };
  for (const path of options.model ?? []) {
    const name = `model${extname(path)}`;
    if (!MODELS.includes(name) || names.includes(name)) {
      console.error(`build: ${path}: a page has one .onnx, one .tflite, or one of each`);
      process.exit(2);
    }
    cpSync(path, join(output, name));
    names.push(name);
  }
  if (names.length) return names;
  exportAs("model.onnx", "--nms", "--precision", options.precision);
  const { calibration } = options;
  if (!calibration) {
    console.warn("build: no photographs (--calibration DIR), so the .tflite is in float32; int8 is faster and smaller");
  }
  const precision = calibration ? ["int8", "--calibration", resolve(calibration)] : ["fp32"];
  if (hasLitert()) exportAs("model.tflite", "--precision", ...precision);
  return names;
}

function copyRuntime(folder, names) {
  for (const name of names) cpSync(join(folder, name), join(output, "runtime", name));
  return names.map((name) => `runtime/${name}`);
}

// A worker resolves no package names
function writeLitert() {
  const source = readFileSync(join(LITERT, "core", "dist", "index.js"), "utf8");
  const own = source.replace('"@litertjs/wasm-utils"', '"./litert_wasm_utils.js"');
  if (own === source) throw new Error("@litertjs/core no longer imports @litertjs/wasm-utils");
  writeFileSync(join(output, "runtime", "litert.js"), own.replace(/^\/\/# sourceMappingURL.*$/m, ""));
  cpSync(join(LITERT, "wasm-utils", "dist", "index.js"), join(output, "runtime", "litert_wasm_utils.js"));
  return ["runtime/litert.js", "runtime/litert_wasm_utils.js"];
}

// What the service worker keeps at the first visit (core) and when it is used (onDemand), and a
// version that changes with the content of any file
function writeFileList(models) {
  const own = readdirSync(join(HERE, "src")).filter((name) => name !== "service_worker.js");
  const core = own;
  const onDemand = [];
  if (models.includes("model.tflite")) {
    core.push("model.tflite", ...writeLitert(), ...copyRuntime(join(LITERT, "core", "wasm"), WITH_THREADS));
    onDemand.push(...copyRuntime(join(LITERT, "core", "wasm"), WITHOUT_THREADS));
  } else {
    core.push("model.onnx", ...copyRuntime(RUNTIME, ONNX_WASM));
  }
  if (models.includes("model.onnx")) {
    if (!core.includes("model.onnx")) onDemand.push("model.onnx");
    onDemand.push(...copyRuntime(RUNTIME, ONNX_WEBGPU));
  }
  const hash = createHash("sha256");
  for (const name of [...core, ...onDemand, "service_worker.js"]) {
    hash.update(name).update(readFileSync(join(output, name)));
  }
  const files = { version: hash.digest("hex").slice(0, 16), models, core, onDemand };
  writeFileSync(join(output, "files.js"), `self.FILES = ${JSON.stringify(files)};\n`);
}

if (!existsSync(RUNTIME) || !existsSync(LITERT)) {
  console.error("build: the packages are not installed: npm ci");
  process.exit(1);
}
for (const name of MODELS) rmSync(join(output, name), { force: true });
mkdirSync(join(output, "runtime"), { recursive: true });
cpSync(join(HERE, "src"), output, { recursive: true });
writeFileList(writeModels());
console.log(`Page is in ${output}`);

// The description inside an exported file: classes, preprocessing, input and outputs.

const METADATA = 14; // field of ModelProto: repeated StringStringEntryProto {key = 1; value = 2}
const KEY = "igcv3det";

/**
 * Reads the description of a detector that `igcv3det export --nms` wrote.
 *
 * @param {Uint8Array} model content of the .onnx file.
 * @returns {{size: number, mean: number[], std: number[], resize: string, names: string[],
 *   precision: string}} size: side of the network input, pixels.
 * @throws {Error} the file is not such a detector.
 */
export function readDescription(model) {
  const entry = entries(model).find(([key]) => key === KEY);
  if (!entry) throw new Error("the model is not an ONNX file of igcv3det export");
  const { detector, categories, export: spec } = JSON.parse(entry[1]);
  if (!spec.suppression || spec.preprocessing) {
    throw new Error("the model must be exported with --nms and without --preprocess");
  }
  const { mean, std, resize } = detector.preprocess;
  const { names } = categories;
  return { size: detector.image_size, mean, std, resize, names, precision: spec.precision };
}

function entries(model) {
  const decoder = new TextDecoder();
  const found = [];
  for (const [field, value] of fields(model)) {
    if (field !== METADATA) continue;
    const texts = new Map();
    for (const [own, bytes] of fields(value)) texts.set(own, decoder.decode(bytes));
    found.push([texts.get(1), texts.get(2)]);
  }
  return found;
}

// Number and bytes of every length-delimited field of a Protocol Buffers message
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new Error("the model is not an ONNX file, or cut off");
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("the model is not an ONNX file, or cut off");
  }
}

// The description inside an exported file: classes, preprocessing, input and outputs.

const METADATA = 14; // field of ONNX's ModelProto: repeated StringStringEntryProto {key = 1; value = 2}
const KEY = "igcv3det";
const MEMBER = `${KEY}.json`; // of the ZIP archive behind a .tflite's flatbuffer

/**
 * Reads the description of a detector that `igcv3det export` wrote: an .onnx with --nms, or a
 * .tflite.
 *
 * @param {Uint8Array} model content of the file.
 * @returns {{size: number, mean: number[], std: number[], resize: string, names: string[],
 *   precision: string, postprocess: object}} size: side of the network input, pixels.
 * @throws {Error} the file is not such a detector.
 */
export function readDescription(model) {
  const isTflite = new TextDecoder("latin1").decode(model.subarray(4, 8)) === "TFL3";
  const text = isTflite ? memberOf(model) : entries(model).find(([key]) => key === KEY)?.[1];
  if (!text) throw new Error("the model is not an ONNX or LiteRT file of igcv3det export");
  const { detector, categories, export: spec } = JSON.parse(text);
  if (!isTflite && (!spec.suppression || spec.preprocessing)) {
    throw new Error("the model must be exported with --nms and without --preprocess");
  }
  const { preprocess, postprocess, image_size: size } = detector;
  const { mean, std, resize } = preprocess;
  return { size, mean, std, resize, names: categories.names, precision: spec.precision, postprocess };
}

// Text of the archive's member, which is stored as it is; undefined where there is none
function memberOf(file) {
  const decoder = new TextDecoder();
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const END = 22; // bytes of the record at the end of an archive without comment
  const end = file.length - END;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return undefined;
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 24, true)];
    const [name, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    if (method === 0 && decoder.decode(file.subarray(at + 46, at + 46 + name)) === MEMBER) {
      const local = view.getUint32(at + 42, true);
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return decoder.decode(file.subarray(start, start + size));
    }
    at += 46 + name + extra + comment;
  }
  return undefined;
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
    throw new Error("the model is not an ONNX or LiteRT file, or cut off");
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
    } else throw new Error("the model is not an ONNX or LiteRT file, or cut off");
  }
}

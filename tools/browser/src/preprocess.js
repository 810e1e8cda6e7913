// From pixels to the network input, as igcv3det/preprocess.py does it.

/**
 * Resizes an image to the square input, without keeping its aspect ratio, and normalises it.
 *
 * @param {{data: Uint8ClampedArray, width: number, height: number}} image RGBA.
 * @param {{size: number, mean: number[], std: number[], resize: string}} description
 * @returns {Float32Array} [3, S, S] RGB.
 */
export function preprocess(image, { size, mean, std, resize }) {
  const resized = resize === "tensorflow" ? resizeTensorflow(image, size) : resizeOpencv(image, size);
  const area = size * size;
  const planes = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const shift = mean[channel];
    const scale = std[channel];
    const plane = planes.subarray(channel * area, (channel + 1) * area);
    for (let pixel = 0, at = channel; pixel < area; pixel++, at += 3) {
      plane[pixel] = (resized[at] - shift) / scale;
    }
  }
  return planes;
}

// OpenCV's INTER_LINEAR for 8 bits: pixel centres at one half, weights of 11 bits, rounded
function resizeOpencv({ data, width, height }, size) {
  const columns = halfPixelWeights(width, size);
  const rows = halfPixelWeights(height, size);
  const output = new Uint8ClampedArray(size * size * 3);
  for (let y = 0, at = 0; y < size; y++) {
    const top = rows.first[y] * width;
    const bottom = rows.second[y] * width;
    const lower = rows.weight[y];
    const upper = 2048 - lower;
    for (let x = 0; x < size; x++) {
      const left = columns.first[x];
      const right = columns.second[x];
      const after = columns.weight[x];
      const before = 2048 - after;
      for (let channel = 0; channel < 3; channel++) {
        const a = data[(top + left) * 4 + channel] * before + data[(top + right) * 4 + channel] * after;
        const b = data[(bottom + left) * 4 + channel] * before + data[(bottom + right) * 4 + channel] * after;
        output[at++] = ((((upper * (a >> 4)) >> 16) + ((lower * (b >> 4)) >> 16) + 2) >> 2);
      }
    }
  }
  return output;
}

function halfPixelWeights(length, size) {
  const first = new Int32Array(size);
  const second = new Int32Array(size);
  const weight = new Int32Array(size);
  for (let target = 0; target < size; target++) {
    const source = Math.fround((target + 0.5) * (length / size) - 0.5);
    const floor = Math.floor(source);
    first[target] = Math.min(Math.max(floor, 0), length - 1);
    second[target] = Math.min(Math.max(floor + 1, 0), length - 1);
    weight[target] = Math.round((source - floor) * 2048);
  }
  return { first, second, weight };
}

// TensorFlow's bilinear resize with source = target * (in / out) from the corner, not rounded
function resizeTensorflow({ data, width, height }, size) {
  const columns = cornerWeights(width, size);
  const rows = cornerWeights(height, size);
  const output = new Float32Array(size * size * 3);
  const mix = (a, b, weight) => a + (b - a) * weight;
  for (let y = 0, at = 0; y < size; y++) {
    const top = rows.first[y] * width;
    const bottom = rows.second[y] * width;
    for (let x = 0; x < size; x++) {
      const left = columns.first[x];
      const right = columns.second[x];
      const share = columns.weight[x];
      for (let channel = 0; channel < 3; channel++) {
        const a = mix(data[(top + left) * 4 + channel], data[(top + right) * 4 + channel], share);
        const b = mix(data[(bottom + left) * 4 + channel], data[(bottom + right) * 4 + channel], share);
        output[at++] = mix(a, b, rows.weight[y]);
      }
    }
  }
  return output;
}

function cornerWeights(length, size) {
  const first = new Int32Array(size);
  const second = new Int32Array(size);
  const weight = new Float32Array(size);
  const scale = Math.fround(length / size);
  for (let target = 0; target < size; target++) {
    const source = Math.fround(target * scale);
    first[target] = Math.floor(source);
    second[target] = Math.min(first[target] + 1, length - 1);
    weight[target] = source - first[target];
  }
  return { first, second, weight };
}

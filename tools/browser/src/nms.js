// From boxes and scores of all anchors to detections, as igcv3det/detection/postprocess.py does it.

/**
 * Class-wise NMS.
 *
 * @param {Float32Array} boxes [A, 4] xyxy in pixels of the network input.
 * @param {Float32Array} scores [A, K] of the foreground classes.
 * @param {{size: number, postprocess: {score_threshold: number, candidates_per_class: number,
 *   iou_threshold: number, detections_per_image: number}}} description
 * @returns {{boxes: number[][], scores: number[], labels: number[]}} best first; boxes clipped to the
 *   input, labels from 1.
 */
export function selectDetections(boxes, scores, { size, postprocess }) {
  const classes = scores.length / (boxes.length / 4);
  const ofClass = Array.from({ length: classes }, () => []);
  for (let at = 0; at < scores.length; at++) {
    if (scores[at] > postprocess.score_threshold) ofClass[at % classes].push(at);
  }
  const kept = [];
  for (const places of ofClass) {
    const candidates = places
      .map((at) => ({ at, score: scores[at], box: boxOf(boxes, Math.floor(at / classes), size) }))
      .filter(({ box }) => box[2] > box[0] && box[3] > box[1]) // NaN is no box either
      .sort(better)
      .slice(0, postprocess.candidates_per_class);
    kept.push(...suppress(candidates, postprocess.iou_threshold));
  }
  const best = kept.sort(better).slice(0, postprocess.detections_per_image);
  return {
    boxes: best.map(({ box }) => box),
    scores: best.map(({ score }) => score),
    labels: best.map(({ at }) => (at % classes) + 1),
  };
}

function better(one, other) {
  return other.score - one.score || one.at - other.at;
}

function boxOf(boxes, row, size) {
  const own = boxes.subarray(4 * row, 4 * row + 4);
  if (!own.every(Number.isFinite)) return [0, 0, 0, 0];
  return Array.from(own, (side) => Math.min(Math.max(side, 0), size));
}

function suppress(candidates, threshold) {
  const kept = [];
  for (const one of candidates) {
    if (kept.every(({ box }) => iou(box, one.box) <= threshold)) kept.push(one);
  }
  return kept;
}

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  return (width * height) / (area(a) + area(b) - width * height);
}

// Selects detections with the page's code. Standard input: {"boxes", "scores" (flat lists),
// "description"}; standard output: what it returns.

import { readFileSync } from "node:fs";
import { selectDetections } from "../../tools/browser/src/nms.js";

const { boxes, scores, description } = JSON.parse(readFileSync(0, "utf8"));
const found = selectDetections(
  Float32Array.from(boxes, (side) => side ?? NaN),
  Float32Array.from(scores),
  description,
);
process.stdout.write(JSON.stringify(found));

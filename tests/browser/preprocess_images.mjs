// Preprocesses images with the page's code. Standard input: {"images": [{"width", "height", "data"
// (RGBA, base64)}], "description"}; standard output: a list of lists of numbers.

import { readFileSync } from "node:fs";
import { preprocess } from "../../tools/browser/src/preprocess.js";

const { images, description } = JSON.parse(readFileSync(0, "utf8"));
const planes = images.map(({ width, height, data }) =>
  Array.from(preprocess({ width, height, data: Buffer.from(data, "base64") }, description)),
);
process.stdout.write(JSON.stringify(planes));

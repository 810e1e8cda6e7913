// Prints the description that the page reads in a file, or its error.

import { readFileSync } from "node:fs";
import { readDescription } from "../../tools/browser/src/description.js";

try {
  process.stdout.write(JSON.stringify(readDescription(new Uint8Array(readFileSync(process.argv[2])))));
} catch (error) {
  process.stdout.write(JSON.stringify({ error: error.message }));
}

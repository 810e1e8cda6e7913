// Writes the images named on the command line to standard output as jpeg-js decodes them:
// width and height as little-endian 32-bit integers, then RGB rows.
const fs = require("fs");
const jpeg = require("jpeg-js");

for (const path of process.argv.slice(2)) {
  const image = jpeg.decode(fs.readFileSync(path), { useTArray: true, formatAsRGBA: false });
  const size = Buffer.alloc(8);
  size.writeInt32LE(image.width, 0);
  size.writeInt32LE(image.height, 4);
  fs.writeSync(1, size);
  for (let start = 0; start < image.data.length; ) {
    start += fs.writeSync(1, image.data, start);
  }
}

// Boxes and names over a bitmap.

const TURN = 137.508; // degrees: neighbouring labels get distant hues

function colorOf(label) {
  return `hsl(${(label * TURN) % 360} 85% 45%)`;
}

/**
 * Draws a bitmap and detections; the canvas takes the bitmap's size.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} bitmap
 * @param {{name: string, label: number, score: number, box: number[]}[]} detections
 */
export function draw(canvas, bitmap, detections) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  // Legible where the page shows a large image small
  const unit = Math.max(bitmap.width, bitmap.height) / Math.max(canvas.clientWidth, 1);
  const line = Math.max(2, 2 * unit);
  const height = Math.max(14, 14 * unit);
  context.lineWidth = line;
  context.font = `${height}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const { name, label, score, box } of [...detections].reverse()) {
    const [x0, y0, x1, y1] = box;
    const text = `${name} ${score.toFixed(2)}`;
    const width = context.measureText(text).width + 2 * line;
    const left = Math.max(0, Math.min(x0, bitmap.width - width));
    context.strokeStyle = context.fillStyle = colorOf(label);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.fillRect(left, Math.max(0, y0), width, height + 2 * line);
    context.fillStyle = "white";
    context.fillText(text, left + line, Math.max(0, y0) + line);
  }
}

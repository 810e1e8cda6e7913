// A static server as simple as they get: no headers for threads.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";

const TYPES = {
  ".html": "text/html",
  ".css": "text/css",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/**
 * Serves a folder on a free port of this machine.
 *
 * @param {string} folder
 * @returns {Promise<{address: string, close: () => void}>} address: URL of the folder.
 */
export async function serveFolder(folder) {
  const server = createServer((request, reply) => {
    const { pathname } = new URL(request.url, "http://x");
    const path = pathname === "/" ? "/index.html" : pathname;
    try {
      const content = readFileSync(join(folder, path));
      reply.setHeader("Content-Type", TYPES[extname(path)] ?? "application/octet-stream");
      reply.end(content);
    } catch {
      reply.statusCode = 404;
      reply.end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { address: `http://localhost:${server.address().port}/`, close };
}

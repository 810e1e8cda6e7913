"""A process that serves a video over HTTP, to one connection after another, and then ends.

python stream_server.py KIND FILE [FILE ...]: each connection gets a file; prints its port. KIND is
the content type; for multipart/x-mixed-replace each file is a JPEG image, which is sent some times.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

BOUNDARY, FRAMES, PAUSE_S = "frame", 8, 0.03


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        data, kind = Path(self.server.files.pop(0)).read_bytes(), self.server.kind
        self.send_response(200)
        if kind == "multipart/x-mixed-replace":
            self.send_header("Content-Type", f"{kind}; boundary={BOUNDARY}")
            self.end_headers()
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            )
            for _ in range(FRAMES):
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(PAUSE_S)
        else:
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.kind, server.files = sys.argv[1], sys.argv[2:]
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    while server.files:
        server.handle_request()

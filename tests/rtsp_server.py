"""A process that serves MPEG transport streams by RTSP, over the connection of its commands.

python rtsp_server.py FILE [FILE ...]: prints its port. Each PLAY gets the next file, sent at once;
then the connection is closed, and after the last file the process ends. /live states no length,
/recorded states one second, /locked is /live for the user "me" with the password "se cret"; other
paths are not found.
"""

import base64
import re
import socket
import struct
import sys
from pathlib import Path

MP2T, CLOCK, TS_PACKET, PACKETS = 33, 90_000, 188, 7
LOGIN = base64.b64encode(b"me:se cret").decode()
DESCRIPTION = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\na=range:npt={}\r\n"
DESCRIPTION += f"m=video 0 RTP/AVP {MP2T}\r\na=control:track\r\n"
RANGES = {"live": "now-", "recorded": "0-1", "locked": "now-"}


def send_stream(connection, data):
    """RTP packets, each after a dollar sign, the channel 0 and its length."""
    step = TS_PACKET * PACKETS
    for number, start in enumerate(range(0, len(data), step)):
        head = struct.pack(">BBHII", 0x80, MP2T, number, number * CLOCK // 100, 1)
        packet = head + data[start : start + step]
        connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def answer(request):
    """Status, headers and body for a request."""
    method, url = request.split()[:2]
    path = url.split("/")[3]
    if path not in RANGES:
        return "404 Not Found", [], ""
    if path == "locked" and f"Authorization: Basic {LOGIN}" not in request:
        return "401 Unauthorized", ['WWW-Authenticate: Basic realm="test"'], ""
    if method == "DESCRIBE":
        return "200 OK", ["Content-Type: application/sdp"], DESCRIPTION.format(RANGES[path])
    if method == "SETUP":
        return "200 OK", ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"], ""
    return "200 OK", ["Session: 1", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN"], ""


def serve(connection, files):
    """Answers one connection until it ends, or a file was sent."""
    text = ""
    while data := connection.recv(10_000):
        text += data.decode("latin-1")
        while "\r\n\r\n" in text:
            request, _, text = text.partition("\r\n\r\n")
            status, headers, body = answer(request)
            number = re.search(r"CSeq: (\d+)", request)[1]
            lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers]
            lines += [f"Content-Length: {len(body)}"] if body else []
            connection.sendall("\r\n".join([*lines, "", body]).encode())
            if request.startswith("PLAY"):
                send_stream(connection, Path(files.pop(0)).read_bytes())
                return


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        files = sys.argv[1:]
        while files:
            with server.accept()[0] as connection:
                serve(connection, files)

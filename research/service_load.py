"""Load on a service of this machine: requests a second, latency, memory.

Usage:
    python research/service_load.py IMAGE [--checkpoint MODEL] [--requests 96] [--rounds 5]
    python research/service_load.py IMAGE --checkpoint tiny.safetensors --memory 10000

Starts `igcv3det serve` on a free port of the loopback address and sends it one image again and
again over connections that stay open. Each round times the bare network (Predictor.detect on
preprocessed inputs, one by one and in batches) and then the service, so that both meet the same
load of the machine. The table has the medians of the rounds; a ratio is that of the service to the
fastest way to run the network in the same round. With --memory N there is no timing: N
requests are sent and the resident memory of the service is read after each tenth of them.

The service and the load share the machine's cores: with OMP_NUM_THREADS=1 the network leaves the
others to them, as the bare network does. Exit status: 0 done, 1 could not be done.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

import numpy as np
import torch

from igcv3det.io.images import read_image
from igcv3det.measure.machine import describe_machine
from igcv3det.measure.tables import text_table
from igcv3det.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent
BATCHES, CONNECTIONS = (1, 2, 8), (1, 4, 16)
HOST = "127.0.0.1"


class Load(NamedTuple):
    """What a number of requests took.

    Attributes:
        rate: requests a second.
        latencies: seconds of each.
    """

    rate: float
    latencies: list[float]


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--checkpoint", default="igcv3-d")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="N")
    options = parser.parse_args(args)
    try:
        body = options.image.read_bytes()
    except OSError as error:
        print(f"service_load: {options.image}: {error.strerror}", file=sys.stderr)
        return 1
    with _service(options.checkpoint) as port:
        if options.memory:
            _show_memory(port, body, options.memory)
        else:
            _show_rates(port, body, options)
    print(f"{describe_machine()}, threads of the network: {torch.get_num_threads()}")
    return 0


@contextlib.contextmanager
def _service(checkpoint: str) -> Iterator[int]:
    """The port of a service that runs as long as the context does."""
    command = [sys.executable, "-m", "igcv3det", "serve", "--port", "0", "--checkpoint", checkpoint]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = re.search(r":(\d+)$", process.stdout.readline())
            if started is None:
                raise ChildProcessError("the service did not start")
            yield int(started[1])
        finally:
            process.terminate()


def _show_rates(port: int, body: bytes, options: argparse.Namespace) -> None:
    predictor = Predictor.load(options.checkpoint)
    image = read_image(options.image)
    bare: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    loads: dict[int, list[Load]] = {connections: [] for connections in CONNECTIONS}
    for _ in range(options.rounds):
        for batch, rates in bare.items():
            rates.append(_bare_rate(predictor, image, batch, options.requests))
        for connections, rounds in loads.items():
            rounds.append(asyncio.run(_send(port, body, options.requests, connections)))
    best = [max(rates) for rates in zip(*bare.values(), strict=True)]
    rows = [
        [f"bare network, {batch} at once", f"{median(rates):.1f}", "-", "-", "-"]
        for batch, rates in bare.items()
    ]
    for connections, rounds in loads.items():
        times = [1000 * seconds for load in rounds for seconds in load.latencies]
        rate = median(load.rate for load in rounds)
        p50, p99 = np.percentile(times, [50, 99])
        ratio = median(load.rate / most for load, most in zip(rounds, best, strict=True))
        name = f"service, {connections} connections"
        rows.append([name, f"{rate:.1f}", f"{ratio:.2f}", f"{p50:.0f}", f"{p99:.0f}"])
    header = ["", "images/s", "of the bare network", "p50 ms", "p99 ms"]
    print(text_table(header, rows))


def _bare_rate(predictor: Predictor, image: np.ndarray, batch: int, images: int) -> float:
    """Images a second of the network alone, postprocessing included."""
    inputs = [predictor.preprocess(image)] * batch
    sizes = [image.shape[:2]] * batch
    predictor.detect(inputs, sizes, threshold=0.3)
    passes = max(1, images // batch)
    start = time.perf_counter()
    for _ in range(passes):
        predictor.detect(inputs, sizes, threshold=0.3)
    return passes * batch / (time.perf_counter() - start)


def _show_memory(port: int, body: bytes, requests: int) -> None:
    rows = []
    for part in range(11):
        if part:
            asyncio.run(_send(port, body, requests // 10, max(CONNECTIONS)))
        rows.append([str(part * requests // 10), f"{_resident(port) / 2**20:.1f}"])
    print(text_table(["requests", "resident MiB"], rows))


def _resident(port: int) -> float:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as reply:
        found = re.search(rb"^process_resident_memory_bytes (\S+)", reply.read(), re.M)
    assert found is not None
    return float(found[1])


async def _send(port: int, body: bytes, requests: int, connections: int) -> Load:
    """Sends requests over several connections, on each one after the other."""
    latencies: list[float] = []
    start = time.perf_counter()
    share = requests // connections
    await asyncio.gather(*(_connection(port, body, share, latencies) for _ in range(connections)))
    return Load(len(latencies) / (time.perf_counter() - start), latencies)


async def _connection(port: int, body: bytes, requests: int, latencies: list[float]) -> None:
    head = f"POST /detect HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(HOST, port)
    for _ in range(requests):
        start = time.perf_counter()
        writer.write(head + body)
        await writer.drain()
        reply = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", reply, re.I)
        assert reply.startswith(b"HTTP/1.1 200"), reply
        assert length is not None
        json.loads(await reader.readexactly(int(length[1])))
        latencies.append(time.perf_counter() - start)
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    sys.exit(main())

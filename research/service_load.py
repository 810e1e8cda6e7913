"""Load on a service of this machine: requests a second, latency, processor time, memory.

Usage:
    python research/service_load.py IMAGE [--checkpoint MODEL] [--requests 96] [--rounds 5]
    python research/service_load.py IMAGE --checkpoint tiny.safetensors --memory 10000

Starts `igcv3det serve` on a free port of the loopback address and sends it one image again and
again over connections that stay open. Each round times the bare network (Predictor.detect on
preprocessed inputs, with the service's allocator: one by one, in batches, and in as many Python
threads as the network has) and then the service, so that both meet the same load of the machine.
The table has the medians of the rounds, in brackets the lowest and the highest; a ratio is that of
the service to the fastest way to run the network in the same round. Processor time is that of all
threads of a process. With --memory N there is no timing: N requests are sent and the resident
memory of the service is read after each tenth of them.

The service and the load share the machine's cores; OMP_NUM_THREADS sets the threads of the network
in both programs. Exit status: 0 done, 1 could not be done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

import numpy as np
import torch

from igcv3det.cli.command import command_parser, run_command
from igcv3det.engine.malloc import tune_malloc
from igcv3det.io.images import read_image
from igcv3det.measure.machine import describe_machine
from igcv3det.measure.tables import text_table
from igcv3det.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = (1, 4, 16)
HOST = "127.0.0.1"


class Bare(NamedTuple):
    """What a number of forward passes took.

    Attributes:
        rate: images a second.
        processor: seconds of processor time for each image.
    """

    rate: float
    processor: float


class Load(NamedTuple):
    """What a number of requests took.

    Attributes:
        rate: requests a second.
        latencies: seconds of each.
        service: seconds of processor time of the service for each.
        client: seconds of processor time of this program for each.
    """

    rate: float
    latencies: list[float]
    service: float
    client: float


class Service(NamedTuple):
    """A service that runs.

    Attributes:
        port: at the loopback address.
        process: its number.
    """

    port: int
    process: int


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("service_load", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.service_load", __doc__, program="python -m")
    parser.add_argument("image", type=Path)
    parser.add_argument("--checkpoint", default="igcv3-d")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="N")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    body = options.image.read_bytes()
    with _service(options.checkpoint) as service:
        if options.memory:
            _show_memory(service, body, options.memory)
        else:
            _show_rates(service, body, options)
    print(f"{describe_machine()}, threads of the network: {torch.get_num_threads()}")
    return 0


@contextlib.contextmanager
def _service(checkpoint: str) -> Iterator[Service]:
    """A service that runs as long as the context does."""
    command = [sys.executable, "-m", "igcv3det", "serve", "--port", "0", "--checkpoint", checkpoint]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = re.search(r":(\d+)$", process.stdout.readline())
            if started is None:
                raise ChildProcessError("the service did not start")
            yield Service(int(started[1]), process.pid)
        finally:
            process.terminate()


def _show_rates(service: Service, body: bytes, options: argparse.Namespace) -> None:
    tune_malloc(return_large=True)  # as the service does
    ways = _ways(Predictor.load(options.checkpoint), read_image(options.image))
    bare: dict[str, list[Bare]] = {way: [] for way in ways}
    loads: dict[int, list[Load]] = {connections: [] for connections in CONNECTIONS}
    for _ in range(options.rounds):
        for way, rates in bare.items():
            rates.append(ways[way](options.requests))
        for connections, rounds in loads.items():
            rounds.append(_send(service, body, options.requests, connections))
    rows = [_bare_row(way, rates) for way, rates in bare.items()]
    best = [max(one.rate for one in rates) for rates in zip(*bare.values(), strict=True)]
    rows += [_load_row(connections, rounds, best) for connections, rounds in loads.items()]
    header = ["", "images/s", "of the bare network", "p50 ms", "p99 ms"]
    print(text_table([*header, "processor ms", "client's"], rows))


def _ways(predictor: Predictor, image: np.ndarray) -> dict[str, Callable[[int], Bare]]:
    """Ways to run the network alone, postprocessing included; each takes a number of images."""
    one = [predictor.preprocess(image)], [image.shape[:2]]
    two = one[0] * 2, one[1] * 2

    def detect(inputs: list[torch.Tensor], sizes: list[tuple[int, int]], passes: int) -> None:
        for _ in range(passes):
            predictor.detect(inputs, sizes, threshold=0.3)

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def detect_in_threads(passes: int) -> None:
        list(pool.map(partial(detect, *one), [passes // threads] * threads))

    ways = {
        "bare network": partial(_bare_rate, partial(detect, *one), 1),
        "bare network, 2 in a batch": partial(_bare_rate, partial(detect, *two), 2),
    }
    if threads > 1:
        name = f"bare network, {threads} passes at once"
        ways[name] = partial(_bare_rate, detect_in_threads, 1)
    return ways


def _bare_rate(run: Callable[[int], None], batch: int, images: int) -> Bare:
    run(4)  # of every thread at least one
    passes = images // batch
    processor, start = time.process_time(), time.perf_counter()
    run(passes)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return Bare(passes * batch / seconds, processor / (passes * batch))


def _bare_row(way: str, rates: list[Bare]) -> list[str]:
    processor = 1000 * median(one.processor for one in rates)
    return [way, _spread([one.rate for one in rates], 1), "-", "-", "-", f"{processor:.1f}", "-"]


def _load_row(connections: int, rounds: list[Load], best: list[float]) -> list[str]:
    times = [1000 * seconds for load in rounds for seconds in load.latencies]
    ratios = [load.rate / most for load, most in zip(rounds, best, strict=True)]
    return [
        f"service, {connections} connections",
        _spread([load.rate for load in rounds], 1),
        _spread(ratios, 2),
        *(f"{value:.0f}" for value in np.percentile(times, [50, 99])),
        f"{1000 * median(load.service for load in rounds):.1f}",
        f"{1000 * median(load.client for load in rounds):.1f}",
    ]


def _spread(values: list[float], digits: int) -> str:
    """Median, lowest and highest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _show_memory(service: Service, body: bytes, requests: int) -> None:
    rows = []
    for part in range(11):
        if part:
            _send(service, body, requests // 10, max(CONNECTIONS))
        rows.append([str(part * requests // 10), f"{_resident(service.port) / 2**20:.1f}"])
    print(text_table(["requests", "resident MiB"], rows))


def _resident(port: int) -> float:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as reply:
        found = re.search(rb"^process_resident_memory_bytes (\S+)", reply.read(), re.M)
    assert found is not None
    return float(found[1])


def _processor_seconds(process: int) -> float:
    """Of all threads of a process, from Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    user_and_system = int(fields[11]) + int(fields[12])
    return user_and_system / os.sysconf("SC_CLK_TCK")


def _send(service: Service, body: bytes, requests: int, connections: int) -> Load:
    """Sends requests over several connections, on each one after the other.

    One thread without a library, so that it takes little of the processor.
    """
    head = f"POST /detect HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    latencies: list[float] = []
    left = requests
    before = _processor_seconds(service.process), time.process_time(), time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(min(connections, requests)):
            one = socket.create_connection((HOST, service.port))
            one.sendall(request)
            selector.register(one, selectors.EVENT_READ, [time.perf_counter(), b""])
            left -= 1
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                key.data[1] += (part := key.fileobj.recv(2**16))
                if not _is_complete(key.data[1]):
                    assert part, "the service closed a connection"
                    continue
                latencies.append(time.perf_counter() - key.data[0])
                if left:
                    left -= 1
                    key.data[:] = [time.perf_counter(), b""]
                    key.fileobj.sendall(request)
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    after = _processor_seconds(service.process), time.process_time(), time.perf_counter()
    own, client, seconds = (end - start for start, end in zip(before, after, strict=True))
    return Load(requests / seconds, latencies, own / requests, client / requests)


def _is_complete(reply: bytes) -> bool:
    head, found, body = reply.partition(b"\r\n\r\n")
    if not found:
        return False
    assert head.startswith(b"HTTP/1.1 200"), reply
    length = re.search(rb"content-length: (\d+)", head, re.I)
    assert length is not None
    return len(body) >= int(length[1])


if __name__ == "__main__":
    sys.exit(main())

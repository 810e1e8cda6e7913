"""Serves a detector over HTTP: POST /detect takes an image, GET /health, GET /metrics.

Examples:
    igcv3det serve --port 8000
    igcv3det serve --checkpoint best.onnx --host 0.0.0.0 --port 80 --threshold 0.4

    curl --data-binary @street.jpg http://127.0.0.1:8000/detect
    curl --form image=@street.jpg "http://127.0.0.1:8000/detect?threshold=0.5&classes=person,dog"

The reply is the record that `predict --json` writes:
    {"file", "width", "height", "detections": [{"label", "category_id", "score", "box"}]}
or {"file", "error"} with status 400 (wrong call), 408 (slow upload), 413 (too large), 415 (no
image), 422 (damaged image) or 503 (too many requests wait; Retry-After says for how long).

SIGTERM and Ctrl-C end the service after the requests in flight are answered.

Exit status: 0 after SIGTERM, 130 after Ctrl-C, 1 the service could not start, 2 wrong call.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import (
    confidence,
    non_negative_float,
    port,
    positive_float,
    positive_int,
)
from igcv3det.cli.command import command_parser, report, run_command

if TYPE_CHECKING:
    from igcv3det.predictor import Predictor
    from igcv3det.service import Limits

MEGA = 1_000_000
ON_CPU, ON_GPU = 2, 16  # images in a batch
MOST_WORKERS = 8  # by default: between PyTorch's operators they share Python's one lock
# How long a thread may keep the interpreter that another one waits for; 5 ms by default, in which
# the network stands still while requests are read
SWITCH_SECONDS = 0.0005


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("serve", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("serve", __doc__)
    add = parser.add_argument
    add("--checkpoint", metavar="MODEL", help="detector (default: the pretrained mobilenetv2)")
    add("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1)")
    add("--port", type=port, default=8000, metavar="N", help="default: 8000; 0 takes a free one")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto, ...")
    limits = parser.add_argument_group("requests")
    for option, kind, default, metavar, text in (
        ("--threshold", confidence, 0.3, "SCORE", "confidence threshold of requests without one"),
        ("--batch-wait", non_negative_float, 0.0, "MS", "wait for more images of a batch"),
        ("--max-requests", positive_int, 64, "N", "requests in flight; more get 503"),
        ("--max-megabytes", positive_float, 16.0, "N", "largest request; larger get 413"),
        ("--max-megapixels", positive_float, 50.0, "N", "largest image; larger get 413"),
        ("--timeout", positive_float, 30.0, "SECONDS", "for an upload and its reply"),
    ):
        shown = f"{text} (default: {default:g})"
        limits.add_argument(option, type=kind, default=default, metavar=metavar, help=shown)
    batch = "most images in one forward pass (default: 2 on a CPU, 16 on a GPU)"
    limits.add_argument("--batch-size", type=positive_int, metavar="N", help=batch)
    workers = (
        "forward passes at once, which share the threads (default: one thread each, at most 8)"
    )
    limits.add_argument("--workers", type=positive_int, metavar="N", help=workers)
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    # Before OpenCV is loaded: a second limit, by its own decoders
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(_most_pixels(options))
    import numpy as np

    from igcv3det.checkpoint import preview_notice
    from igcv3det.pretrained import DEFAULT
    from igcv3det.service import build_app
    from igcv3det.service.server import BACKLOG, address_of, bind, run

    if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
        report("serve", notice)
    with bind(options.host, options.port) as own:
        predictor, workers = _load(options)
        _tune_process()
        size = predictor.config.image_size
        predictor(np.zeros((size, size, 3), np.uint8))  # fails now, if it does, not in a request
        limits = _limits(options, predictor, workers)
        app = build_app(predictor, limits, threshold=options.threshold)
        own.listen(BACKLOG)  # a client that reads the next line can connect
        print(f"Serving at {address_of(own)}", flush=True)
        run(app, own, options.timeout)
    return 0


def _load(options: argparse.Namespace) -> tuple[Predictor, int]:
    """The detector, and how many forward passes run at once.

    Two threads compute 1.3 times as many images as one, two passes of one thread each 1.7 times
    (docs/serve.md), so each pass has one thread unless there are fewer workers than threads.
    """
    import torch

    from igcv3det.devices import existing_device
    from igcv3det.predictor import Predictor
    from igcv3det.pretrained import resolve_model
    from igcv3det.runtime import EXPORTED_SUFFIXES, load_exported

    threads = torch.get_num_threads()
    is_cpu = existing_device(options.device).type == "cpu"
    workers: int = options.workers or (min(threads, MOST_WORKERS) if is_cpu else 1)
    of_each = max(1, threads // workers)
    torch.set_num_threads(of_each)
    file = resolve_model(options.checkpoint)
    if file.suffix in EXPORTED_SUFFIXES:
        return Predictor(load_exported(file, threads=of_each), options.device), workers
    return Predictor.load(file, options.device), workers


def _tune_process() -> None:
    import cv2

    from igcv3det.engine.malloc import tune_malloc

    tune_malloc(return_large=True)
    sys.setswitchinterval(SWITCH_SECONDS)
    cv2.setNumThreads(1)  # images are decoded in threads of the service's own


def _most_pixels(options: argparse.Namespace) -> int:
    megapixels: float = options.max_megapixels
    return max(1, round(megapixels * MEGA))


def _limits(options: argparse.Namespace, predictor: Predictor, workers: int) -> Limits:
    from igcv3det.service import Limits

    return Limits(
        max_bytes=max(1, round(options.max_megabytes * MEGA)),
        max_pixels=_most_pixels(options),
        max_requests=options.max_requests,
        seconds=options.timeout,
        batch_size=options.batch_size or (ON_CPU if predictor.device.type == "cpu" else ON_GPU),
        batch_wait=options.batch_wait / 1000,
        workers=workers,
    )

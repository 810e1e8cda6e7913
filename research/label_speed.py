"""Time and memory for reading the labels of a large data set.

Example:
    python -m research.label_speed FOLDER --images 100000

Creates YOLO and Pascal VOC data sets in FOLDER: one JPEG under many names (hard links), each with
seven random boxes. Each data set is read twice, each time in a new process: from its files, then
from the cached record. Prints seconds, processor time and peak resident memory, with and without
that of Python and its libraries. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.io.images import write_image
from research.layouts import Box, ImageWithBoxes, voc_xml

_WIDTH, _HEIGHT, _BOXES = 640, 480, 7
_NAMES = ("cat", "dog", "zebra", "cow")
_READ = """
import json, re, sys, time
from pathlib import Path
from igcv3det.datasets.dataset import Dataset

def peak():  # of this process alone: getrusage counts the parent's, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before, start, worked = peak(), time.perf_counter(), time.process_time()
record, _ = Dataset(sys.argv[1]).read("all")
seconds = time.perf_counter() - start, time.process_time() - worked
print(json.dumps([len(record.images), len(record), *seconds, peak(), peak() - before]))
"""


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("label_speed", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.label_speed", __doc__, program="python -m")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder for the data sets")
    parser.add_argument(
        "--images",
        type=positive_int,
        default=100_000,
        help="images of a data set (default: 100000)",
    )
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    for name, make in (("yolo", _make_yolo), ("voc", _make_voc)):
        folder = options.folder / name
        if not folder.exists():
            make(folder, options.images)
        environment = {**os.environ, "IGCV3DET_CACHE": str(options.folder / "cache")}
        for place in (options.folder / "cache").glob("*.npz"):
            place.unlink()
        for what in ("files", "cached record"):
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(folder)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            images, boxes, seconds, worked, peak, own = json.loads(done.stdout)
            print(
                f"{name:<5} {what:<13} {images} images, {boxes} boxes: {seconds:.1f} s "
                f"({worked:.1f} s of processor time), {peak:.0f} MiB ({own:.0f} MiB for reading)",
                flush=True,
            )
    return 0


def _images(folder: Path, count: int) -> list[ImageWithBoxes]:
    """Links one image under many names, with random whole-pixel boxes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    first = folder.parent / "first.jpg"
    write_image(first, rng.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8))
    corners = rng.integers(0, 400, (count, _BOXES, 2)).tolist()
    sides = rng.integers(1, 80, (count, _BOXES, 2)).tolist()
    classes = rng.integers(0, len(_NAMES), (count, _BOXES)).tolist()
    images = []
    source, links = first, 0
    for index in range(count):
        path = folder / f"{index:06d}.jpg"
        if links == 30_000:  # file systems limit the links to a file
            source, links = path, 0
            source.write_bytes(first.read_bytes())
        else:
            os.link(source, path)
            links += 1
        boxes = [
            Box(_NAMES[label], *corner, *side)
            for label, corner, side in zip(
                classes[index], corners[index], sides[index], strict=True
            )
        ]
        images.append(ImageWithBoxes(path, _WIDTH, _HEIGHT, boxes))
    return images


def _make_yolo(folder: Path, count: int) -> None:
    images = _images(folder / "images", count)
    (folder / "labels").mkdir()
    for image in images:
        lines = [
            f"{_NAMES.index(box.name)} {(box.x + box.width / 2) / _WIDTH:.6f} "
            f"{(box.y + box.height / 2) / _HEIGHT:.6f} {box.width / _WIDTH:.6f} "
            f"{box.height / _HEIGHT:.6f}\n"
            for box in image.boxes
        ]
        (folder / "labels" / f"{image.path.stem}.txt").write_text("".join(lines))
    (folder / "data.yaml").write_text(f"train: images\nnames: [{', '.join(_NAMES)}]\n")


def _make_voc(folder: Path, count: int) -> None:
    images = _images(folder / "JPEGImages", count)
    (folder / "Annotations").mkdir()
    for image in images:
        (folder / "Annotations" / f"{image.path.stem}.xml").write_text(voc_xml(image))


if __name__ == "__main__":
    raise SystemExit(main())

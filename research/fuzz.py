"""Fuzzing: annotation files, images and files of detectors with random mutations, by the thousand.

Usage:
    python research/fuzz.py [--files 10000] [--images 2000] [--models 500] [--seed 0] [--keep DIR]

Each annotation file goes through check-data, the training reader, evaluation with a results file,
the reader of distillation and split-data; each image through check-data and `read_image`; each
checkpoint or exported file, of the formats whose packages are installed, through `Predictor.load`
and, if that takes it, a detection. A file must either be read or be refused with one line that
names it. Everything else is a failure: an error other than ValueError or OSError, a message of
several lines or without the file's name, more than 20 seconds, the end of the process. Failures are
printed with the seed that reproduces the file; --keep writes their files to a folder.

Exit status: 0 no failure, 1 failures, 2 wrong call.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.cli import split_data
from igcv3det.cli.command import DEBUG, command_parser, run_command
from igcv3det.datasets.box_labels import read_labels
from igcv3det.datasets.checks import check_record, load_annotations, require_content
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.image_files import check_images
from igcv3det.evaluation import CocoEvaluator
from igcv3det.io.images import read_image, write_image
from igcv3det.predictor import Predictor
from igcv3det.structures import Categories
from research.model_files import sound_models
from research.mutations import SIZE, mutated_bytes, mutated_file, sound_image

Check = Callable[[], object]
CATEGORIES = Categories((3, 7), ("cat", "dog"))
SECONDS = 20
CHUNK = 250  # cases of one process
LONGEST = 2000  # characters of a message


class TooSlowError(Exception):
    """A case took longer than `SECONDS`."""


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("fuzz", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("fuzz", __doc__)
    add = parser.add_argument
    add("--files", type=int, default=10_000, metavar="N", help="annotation files (default: 10000)")
    add("--images", type=int, default=2_000, metavar="N", help="images (default: 2000)")
    add("--models", type=int, default=500, metavar="N", help="files of detectors (default: 500)")
    add("--seed", type=int, default=0, metavar="S", help="of all mistakes (default: 0)")
    add("--keep", type=Path, metavar="DIR", help="write the files of failures to this folder")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    cases = [("file", number) for number in range(options.files)]
    cases += [("image", number) for number in range(options.images)]
    cases += [("model", number) for number in range(options.models)]
    with tempfile.TemporaryDirectory() as name:
        options.sound = sound_models(Path(name)) if options.models else []
        for start in range(0, len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            for outcome, detail in _in_process(chunk, options):
                outcomes[outcome] += 1
                if detail:
                    failures.append(detail)
                    print(detail, file=sys.stderr)
    print(
        f"{options.files} annotation files, {options.images} images, {options.models} files of "
        f"detectors, seed {options.seed}"
    )
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>7}  {outcome}")
    print(f"{len(failures)} failures in {time.monotonic() - started:.0f} s")
    return 1 if failures else 0


def _in_process(
    cases: list[tuple[str, int]], options: argparse.Namespace
) -> Iterator[tuple[str, str]]:
    """(outcome, what failed) of every case, computed in a process that may crash."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(cases, options, sender))
    process.start()
    sender.close()
    done = 0
    with contextlib.suppress(EOFError):
        while True:
            yield from receiver.recv()
            done += 1
    process.join()
    if done < len(cases):
        kind, number = cases[done]
        yield (
            f"{kind}: process ended",
            f"{kind} {number} of seed {options.seed}: exit status {process.exitcode}",
        )


def _worker(cases: list[tuple[str, int]], options: argparse.Namespace, sender: Connection) -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_slow)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write there
    with tempfile.TemporaryDirectory() as name:
        for kind, number in cases:
            draw = random.Random(f"{options.seed} {kind} {number}")
            if kind == "model":
                path, checks = _model_case(Path(name), draw, options.sound)
            else:
                path, checks = (_file_case if kind == "file" else _image_case)(Path(name), draw)
            sender.send([_outcome(kind, number, check, path, options) for check in checks.items()])


def _outcome(
    kind: str,
    number: int,
    check: tuple[str, Check],
    path: Path,
    options: argparse.Namespace,
) -> tuple[str, str]:
    name, call = check
    signal.alarm(SECONDS)
    try:
        call()
        return f"{kind}: {name}: read", ""
    except (ValueError, OSError) as error:
        message = str(error)
        # of a graph and its weights either may be named
        is_named = str(path.with_suffix("")) in message
        if is_named and "\n" not in message and len(message) < LONGEST:
            return f"{kind}: {name}: refused", ""
        problem = f"message {message[:LONGEST]!r}"
    except Exception:  # noqa: BLE001 (what is looked for)
        problem = traceback.format_exc()
    finally:
        signal.alarm(0)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"{kind}-{number}-{path.name}").write_bytes(path.read_bytes())
    return f"{kind}: {name}: failed", f"{kind} {number} of seed {options.seed}: {name}: {problem}"


def _file_case(folder: Path, draw: random.Random) -> tuple[Path, dict[str, Check]]:
    path = folder / draw.choice(("a.json", "a.json", "a.json", "a.yaml", "a.xml", "a.txt"))
    path.write_bytes(mutated_file(draw))
    images = folder / "images"
    if not images.exists():
        images.mkdir()
        for number in range(1, 4):
            write_image(images / f"{number}.png", np.zeros((*SIZE, 3), np.uint8))

    def check() -> None:
        checked = check_record(read_coco(path), images)
        checked.issues.extend(check_images(checked.store, images, str(path)))
        json.dumps([issue._asdict() for issue in checked.issues])
        require_content(checked, path)

    def split() -> None:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            out = folder / f"split-{draw.randrange(2**32)}"
            status = split_data.main([str(path), "--output", str(out), "--share", "0.5"])
        message = errors.getvalue().strip()
        if DEBUG in message:
            raise RuntimeError(message)  # an error that the command does not know
        if status:
            raise ValueError(message)

    return path, {
        "check-data": check,
        "training": lambda: load_annotations(path, images),
        "evaluation": lambda: _evaluate(path, draw),
        "distillation": lambda: read_labels(path, CATEGORIES),
        "split-data": split,
    }


def _evaluate(path: Path, draw: random.Random) -> None:
    evaluator = CocoEvaluator(path)
    truth = evaluator.ground_truth
    results = [
        {
            "image_id": image_id,
            "category_id": draw.choice(truth.categories.ids),
            "bbox": [1, 2, 10, 10],
            "score": 0.5,
        }
        for image_id in evaluator.image_ids
    ]
    evaluator.update_results(results)
    evaluator.compute()
    evaluator.diagnose()
    json.dumps(evaluator.results())


def _image_case(folder: Path, draw: random.Random) -> tuple[Path, dict[str, Check]]:
    ending, data = sound_image(draw)
    path = folder / f"image.{ending}"
    path.write_bytes(mutated_bytes(data, draw))
    size = draw.choice((SIZE, SIZE, SIZE[::-1], (1, 1)))

    def check() -> None:
        content = {
            "images": [{"id": 1, "file_name": path.name, "height": size[0], "width": size[1]}],
            "categories": [{"id": 1, "name": "x"}],
        }
        (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")
        store, _ = check_record(read_coco(folder / "a.json"), folder)
        for issue in check_images(store, folder, "a.json"):
            raise ValueError(str(issue))

    return path, {
        "check-data": check,
        "read_image": lambda: read_image(path),
        "read_image with size": lambda: read_image(path, size),
    }


def _model_case(
    folder: Path, draw: random.Random, sound: list[Path]
) -> tuple[Path, dict[str, Check]]:
    own = draw.choice(sound)
    files = [own, *([own.with_suffix(".bin")] if own.suffix in (".xml", ".param") else [])]
    mutated = draw.choice(files)
    for file in files:
        data = file.read_bytes()
        (folder / file.name).write_bytes(mutated_bytes(data, draw) if file == mutated else data)
    path = folder / own.name

    def detect() -> None:
        try:
            predictor = Predictor.load(path)
        except ImportError as error:  # a runtime
            raise ValueError(str(error)) from error
        predictor(np.zeros((*SIZE, 3), np.uint8))

    return folder / mutated.name, {own.suffix: detect}


def _too_slow(signum: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"longer than {SECONDS} s")


if __name__ == "__main__":
    raise SystemExit(main())

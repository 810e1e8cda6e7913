r"""Distillation on a rented GPU: images packed into one file, one command of a few minutes there.

Usage:
    python -m research.gpu_distillation pack IMAGES... --output packed.zip
    python -m research.gpu_distillation train packed.zip --output DIR [--minutes 8.5]
    python -m research.gpu_distillation train packed.zip --output DIR \
        --config configs/distill/compressed.yaml --weights runs/compress/latency0.8.safetensors

``pack`` stores all images as squares of the network's input size, in the best WebP quality with
which the file stays below --limit-mib. ``train`` distils the baseline into IGCV3-D with
``configs/distill/gpu.yaml`` (without boxes), or trains what ``igcv3det compress`` made: it times
a few steps, chooses as many as fit the minutes, trains in bfloat16 and writes
DIR/student.safetensors. The same command resumes a run that was cut off, with the steps chosen
first. Without a GPU it runs on the CPU if --steps is given, for a rehearsal
(``--steps 4 --batch-size 2``).

Exit status: 0 done, 1 could not be done, or the time was over before the last step (call again),
2 wrong call.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pytorch_lightning import Callback, LightningModule, Trainer

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.cli.arguments import positive_float, positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.image_cache import ImageCache
from igcv3det.engine.checkpoints import LAST, LastCheckpoint
from igcv3det.engine.run_folder import CHECKPOINTS
from igcv3det.tasks.distill.train import DistillationCLI
from research.ablation.runs import resume_arguments

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "distill" / "gpu.yaml"
SIDE = 300  # pixels, of the configuration's network
QUALITIES = (90, 85, 80, 75, 70, 65, 60, 55, 50, 45, 40)
SAMPLE = 200  # images whose sizes choose the quality
MARGIN = 0.97  # share of the limit that the estimate may use
IMAGES, PLAN, RESULT = "images", "plan.json", "student.safetensors"
WARM_UP, TIMED = 30, 30  # steps before and within the timing
TIMING_SHARE = 0.5  # of the minutes, at most
SAVED_EVERY = 500  # steps
RESERVE_S = 45  # start of the trainer, last validation, writing the files
LEAST_S = 60.0  # of training in a call


def pack(folders: Sequence[Path], output: Path, limit: int, cache: Path) -> tuple[int, int]:
    """Writes the images as squares of `SIDE` into a zip file of at most ``limit`` bytes.

    Returns:
        Number of images, WebP quality.

    Raises:
        FileNotFoundError: a folder without images.
        ValueError: the least quality needs more bytes.
    """
    pixels = ImageCache(folders, SIDE, cache).pixels
    rows = np.linspace(0, len(pixels) - 1, min(SAMPLE, len(pixels))).astype(int)
    for quality in QUALITIES:
        size = sum(len(_webp(pixels[row], quality)) for row in rows) / len(rows)
        if size * len(pixels) > MARGIN * limit:
            continue
        with replacing(output) as partial:
            with zipfile.ZipFile(partial, "w") as archive:
                for row, image in enumerate(pixels):
                    archive.writestr(f"{row:06}.webp", _webp(image, quality))
            if partial.stat().st_size <= limit:
                return len(pixels), quality
            raise ValueError(f"{output}: more than the limit of {limit} bytes")
    raise ValueError(
        f"{len(pixels)} images need more than {limit} bytes in quality {QUALITIES[-1]}: "
        "pack fewer, or raise --limit-mib"
    )


def _webp(image: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def unpack(packed: Path, folder: Path) -> Path:
    """The folder with the images of a packed file, extracted unless that is done.

    Raises:
        OSError: the file cannot be read.
        ValueError: no zip file of images.
    """
    target = folder / IMAGES
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            try:
                with zipfile.ZipFile(packed) as archive:
                    archive.extractall(partial)
            except zipfile.BadZipFile as error:
                raise ValueError(f"{packed}: {error}") from error
            Path(partial).rename(target)
            Path(partial).mkdir()  # for the clean-up of the temporary folder
    return target


class StepTimer(Callback):
    """Measures the seconds of a step after the first ones, which compile and allocate."""

    def __init__(self, warm_up: int, timed: int) -> None:
        self.warm_up, self.timed = warm_up, timed
        self.seconds = 0.0
        """Of one step; 0 until it is measured."""
        self._start = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Reads the clock when the device has finished."""
        if trainer.global_step in (self.warm_up, self.warm_up + self.timed):
            float(trainer.callback_metrics["train/loss"])  # waits for a GPU
            if self._start:
                self.seconds = (time.perf_counter() - self._start) / self.timed
            self._start = time.perf_counter()


class Deadline(Callback):
    """Ends a training at a moment.

    Lightning's ``max_time`` counts the time of all calls of a resumed run.

    Args:
        moment: of ``time.monotonic()``.
    """

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Tells the trainer to stop."""
        if time.monotonic() >= self.moment:
            trainer.should_stop = True


def prepared(call: Sequence[str], *callbacks: Callback) -> DistillationCLI:
    """A distillation with further callbacks.

    They come before those that write checkpoints, which then see what they decide, and do not
    count in what they measure.
    """
    cli = DistillationCLI(call)
    own: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
    own[:0] = callbacks
    for callback in own:
        if isinstance(callback, LastCheckpoint):
            callback.every_epoch = False  # an epoch takes seconds
    return cli


def require_gpu() -> None:
    """Raises RuntimeError where there is none that torch can use."""
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"torch {torch.__version__} finds no GPU: install a build with CUDA that the driver "
            "supports (torch.cuda.init() says what is wrong), or rehearse on the CPU with --steps 4"
        )


def arguments(options: argparse.Namespace, images: Path) -> list[str]:
    """What all runs have in common."""
    call = [
        *(word for config in options.config for word in ("--config", str(config))),
        *("--data.folders", f"[{images}]", "--data.boxes", "[]", "--data.on_device", "true"),
        *("--model.distillation.box_weight", "0", "--data.cache", str(options.output / "cache")),
        *("--data.batch_size", str(options.batch_size)),
        *("--data.held_out", str(options.held_out)),
        *("--trainer.enable_progress_bar", "false", "--trainer.devices", "1"),
    ]
    if options.weights:
        call += ["--model.weights", options.weights, "--model.distillation.start", "random"]
    return [*call, *(f"--{setting}" for setting in options.set)]


def plan_steps(options: argparse.Namespace, images: Path, started: float) -> int:
    """Steps of the whole run: those of an earlier call, --steps, or as many as fit the minutes.

    Raises:
        RuntimeError: no GPU, and the steps are not given.
        ValueError: the time is too short for any.
    """
    file = options.output / PLAN
    if file.is_file():
        return int(json.loads(file.read_text(encoding="utf-8"))["steps"])
    steps, seconds = options.steps, None
    if not steps:
        require_gpu()
        timer = StepTimer(WARM_UP, TIMED)
        folder = options.output / "timing"
        steps = WARM_UP + TIMED
        call = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)]
        call += ["--trainer.limit_val_batches", "0", "--trainer.default_root_dir", str(folder)]
        deadline = Deadline(started + TIMING_SHARE * 60 * options.minutes)
        prepared([*arguments(options, images), *call], deadline, timer).fit()
        shutil.rmtree(folder)
        seconds = timer.seconds
        left = options.minutes * 60 - (time.monotonic() - started) - RESERVE_S
        steps = int(left / seconds) if seconds else 0
        if steps < 1:
            raise ValueError(f"--minutes {options.minutes:g}: too short, {left:.0f} s are left")
    atomic_write(file, json.dumps({"steps": steps, "seconds_per_step": seconds}))
    return int(steps)


def train(options: argparse.Namespace) -> int:
    """Trains or resumes; 1 where the time was over first."""
    started = time.monotonic()
    images = unpack(options.packed, options.output)
    steps = plan_steps(options, images, started)
    folder = options.output / "run"
    left = max(LEAST_S, options.minutes * 60 - (time.monotonic() - started) - RESERVE_S / 3)
    call = ["--trainer.max_steps", str(steps), "--save_every_n_steps", str(SAVED_EVERY)]
    call += ["--trainer.val_check_interval", str(max(1, steps // 8))]
    call = [*arguments(options, images), *call, *resume_arguments(0, folder)]
    cli = prepared(call, Deadline(time.monotonic() + left))
    best = cli.fit()
    done = cli.trainer.global_step
    if best is not None:
        with replacing(options.output / RESULT) as partial:
            shutil.copyfile(best, partial)
    print(f"{done} of {steps} steps; {options.output / RESULT}; {folder / CHECKPOINTS / LAST}")
    return 0 if done >= steps else 1


def _pack(options: argparse.Namespace) -> int:
    limit = int(options.limit_mib * 2**20)
    count, quality = pack(options.folders, options.output, limit, options.cache)
    size = options.output.stat().st_size / 2**20
    print(f"{options.output}: {count} images, WebP quality {quality}, {size:.1f} MiB")
    return 0


def _parse(args: Sequence[str]) -> argparse.Namespace:
    parser = command_parser("research.gpu_distillation", __doc__, program="python -m")
    commands = parser.add_subparsers(required=True)
    own = commands.add_parser("pack", help="images into one file")
    own.set_defaults(run=_pack)
    own.add_argument("folders", type=Path, nargs="+", metavar="IMAGES")
    own.add_argument("--output", type=Path, required=True)
    own.add_argument("--limit-mib", type=positive_float, default=64.0)
    own.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded images")
    own = commands.add_parser("train", help="distils, or resumes")
    own.set_defaults(run=train)
    own.add_argument("packed", type=Path)
    own.add_argument("--output", type=Path, required=True)
    own.add_argument("--minutes", type=positive_float, default=8.5, help="of this call")
    own.add_argument("--steps", type=positive_int, help="default: as many as fit the minutes")
    own.add_argument("--batch-size", type=positive_int, default=128)
    own.add_argument("--held-out", type=positive_int, default=128)
    own.add_argument("--weights", metavar="MODEL", help="student to start from")
    own.add_argument(
        "--config", type=Path, nargs="+", default=[CONFIG], metavar="YAML", help="of distillation"
    )
    own.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of distillation"
    )
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return run_command("gpu_distillation", _parse, lambda options: options.run(options), args)


if __name__ == "__main__":
    raise SystemExit(main())

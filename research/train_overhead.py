"""Speed of training relative to bare forward and backward passes of its network.

Usage:
    python research/train_overhead.py [--config FILE] [--batch-size 8] [--workers 2]
    python research/train_overhead.py --workers 0 --clock cpu     on a busy machine
    python research/train_overhead.py --task segment --data data/camvid --ignore 11

Training steps (with loading, augmentation, matching, loss, optimizer, averaged weights and logging)
and bare forward and backward passes of the same network on a fixed batch are timed in turn in one
process, in the same precision and layout, under the same load of the machine. A segmenter is that
of ``train DATA --task segment``; its bare pass ends with the coarse logits. The first steps of each
turn are not counted: workers prepared their batches during the bare passes. Prints one line of
JSON; a ratio of 0.9 means 0.9 of the bare speed. ``--clock cpu`` counts this process alone, so it
needs ``--workers 0``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from pytorch_lightning import Callback

from igcv3det.cli.command import command_parser, run_command
from igcv3det.engine.malloc import tune_malloc
from igcv3det.engine.run_cli import RunCLI
from igcv3det.shapes.dataset import CATEGORIES, write_shapes
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.train import SegmentationCLI
from igcv3det.tasks.segment.train_data import training_call

SKIPPED_STEPS = 5  # four batches wait in two workers' queues
COUNTED_STEPS = 8


class TimeInTurn(Callback):
    """Times blocks of training steps, each followed by as many bare passes.

    Attributes:
        training_s: seconds of each counted training step.
        bare_s: seconds of each bare pass.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.training_s: list[float] = []
        self.bare_s: list[float] = []
        self._steps = 0
        self._end = 0.0

    def on_train_start(self, trainer, pl_module) -> None:  # noqa: ANN001
        """Copies the network, so that the bare passes do not change the training."""
        own = pl_module.detector if hasattr(pl_module, "detector") else pl_module.segmenter
        self._network = copy.deepcopy(own).train()
        self._is_bf16 = "bf16" in str(trainer.precision)
        size = self._network.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        images = torch.randn(trainer.datamodule.batch_size, 3, height, width)
        layout = torch.channels_last if pl_module.channels_last else torch.contiguous_format
        self._images = images.contiguous(memory_format=layout)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # noqa: ANN001
        """Records the duration of the step that has ended."""
        now = self._clock()
        if self._steps >= SKIPPED_STEPS:
            self.training_s.append(now - self._end)
        self._steps += 1
        if self._steps == SKIPPED_STEPS + COUNTED_STEPS:
            self._steps = 0
            self._bare()
        self._end = self._clock()

    def _bare(self) -> None:
        for _ in range(COUNTED_STEPS):
            start = self._clock()
            self._network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self._is_bf16):
                outputs = self._outputs()
            torch.stack([output.float().mean() for output in outputs]).sum().backward()
            self.bare_s.append(self._clock() - start)

    def _outputs(self) -> Sequence[torch.Tensor]:
        if isinstance(self._network, Segmenter):
            return (self._network.coarse_logits(self._images),)
        outputs: Sequence[torch.Tensor] = self._network(self._images)
        return outputs


def measure(options: argparse.Namespace, folder: Path) -> TimeInTurn:
    """Trains for some turns, writing to ``folder``."""
    steps = options.turns * (SKIPPED_STEPS + COUNTED_STEPS)
    words = [
        *("--data.batch_size", str(options.batch_size)),
        *("--data.num_workers", str(options.workers)),
        *("--trainer.default_root_dir", str(folder / "run"), "--trainer.accelerator", "cpu"),
        *("--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps)),
        *("--trainer.limit_val_batches", "0"),
    ]
    cli: RunCLI
    if options.task == "segment":
        words += ["--data.ignore", f"[{options.ignore}]"]
        cli = SegmentationCLI(training_call(options.data, words).arguments)
    else:
        write_shapes(folder / "data", train=8 * options.batch_size, val=1, image_size=640)
        words += ["--model.detector.num_classes", str(len(CATEGORIES))]
        base = ["--config", options.config, "--data.root", str(folder / "data")]
        cli = DetectionCLI([*base, *words])
    turns = TimeInTurn(time.process_time if options.clock == "cpu" else time.perf_counter)
    cli.trainer.callbacks.append(turns)  # type: ignore[attr-defined]
    cli.fit()
    return turns


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("train_overhead", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.train_overhead", __doc__, program="python -m")
    parser.add_argument("--config", default="configs/igcv3_ssdlite320_coco.yaml")
    parser.add_argument("--task", choices=["detect", "segment"], default="detect")
    parser.add_argument("--data", metavar="DIR", help="images and masks, for segmentation")
    parser.add_argument("--ignore", default="", metavar="LABELS", help="labels of no class")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args(args)
    if options.task == "segment" and options.data is None:
        parser.error("--task segment needs --data")
    if options.clock == "cpu" and options.workers:
        parser.error("--clock cpu does not see other processes: pass --workers 0")
    return options


def _run(options: argparse.Namespace) -> int:
    torch.set_num_threads(options.threads)
    tune_malloc()  # as the training commands do
    with tempfile.TemporaryDirectory() as folder:
        turns = measure(options, Path(folder))
    training, bare = median(turns.training_s), median(turns.bare_s)
    line = {
        "batch_size": options.batch_size,
        "workers": options.workers,
        "threads": options.threads,
        "clock": options.clock,
        "training_step_ms": round(1000 * training, 1),
        "bare_pass_ms": round(1000 * bare, 1),
        "ratio": round(bare / training, 3),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed of training relative to bare forward and backward passes of its network.

Usage:
    python research/train_overhead.py [--config FILE] [--batch-size 8] [--workers 2]
    python research/train_overhead.py --workers 0 --clock cpu     on a busy machine

Training steps (with loading, augmentation, matching, loss, optimizer, averaged weights and logging)
and bare forward and backward passes of the same network on a fixed batch are timed in turn in one
process, under the same load of the machine. The first steps of each turn are not counted: workers
prepared their batches during the bare passes. Prints one line of JSON; a ratio of 0.9 means 0.9 of
the bare speed. ``--clock cpu`` counts this process alone, so it needs ``--workers 0``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from pytorch_lightning import Callback

from igcv3det.engine.malloc import tune_malloc
from igcv3det.shapes.dataset import CATEGORIES, write_shapes
from igcv3det.tasks.detect.train import DetectionCLI

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
        self._network = copy.deepcopy(pl_module.detector).train()
        size = self._network.config.image_size
        self._images = torch.randn(trainer.datamodule.batch_size, 3, size, size)

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
            logits, offsets = self._network(self._images)
            (logits.mean() + offsets.mean()).backward()
            self.bare_s.append(self._clock() - start)


def measure(options: argparse.Namespace, folder: Path) -> TimeInTurn:
    """Trains for some turns, writing to ``folder``."""
    steps = options.turns * (SKIPPED_STEPS + COUNTED_STEPS)
    write_shapes(folder / "data", train=8 * options.batch_size, val=1, image_size=640)
    cli = DetectionCLI(
        [
            *("--config", options.config, "--data.root", str(folder / "data")),
            *("--data.batch_size", str(options.batch_size)),
            *("--data.num_workers", str(options.workers)),
            *("--model.detector.num_classes", str(len(CATEGORIES))),
            *("--trainer.default_root_dir", str(folder / "run"), "--trainer.accelerator", "cpu"),
            *("--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps)),
            *("--trainer.limit_val_batches", "0"),
        ]
    )
    turns = TimeInTurn(time.process_time if options.clock == "cpu" else time.perf_counter)
    cli.trainer.callbacks.append(turns)  # type: ignore[attr-defined]
    cli.fit()
    return turns


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/igcv3_ssdlite320_coco.yaml")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args(args)
    if options.clock == "cpu" and options.workers:
        parser.error("--clock cpu does not see other processes: pass --workers 0")
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

"""Time and memory traffic of a training step, by kind of operation.

Usage:
    python research/training_bytes.py [CONFIG...] [--batch 16] [--rounds 3]

Every operation that PyTorch runs in a step (forward, backward, optimizer) is timed, and the sizes
of the tensors that it reads and writes are added up, as if nothing was cached. Without CONFIG: the
two SSDLite configurations with the fast conv_impl, channels-last, bfloat16. Exit status: 0 done,
1 could not be done.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from igcv3det.cli.command import command_parser, run_command
from igcv3det.measure.tables import format_number, text_table
from igcv3det.measure.targets import BenchmarkTarget
from igcv3det.measure.training_step import TrainingStepOptions, open_training_step

CONFIGS = (
    "configs/mobilenetv2_ssdlite320_coco.yaml",
    "configs/igcv3_ssdlite320_coco.yaml",
)
KINDS = {
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "native_batch_norm_backward": "batch norm",
    "hardtanh": "ReLU6",
    "hardtanh_": "ReLU6",
    "hardtanh_backward": "ReLU6",
    "index": "weight gathering",
    "index_select": "weight gathering",
    "index_put_": "weight gathering",
    "_index_put_impl_": "weight gathering",
    "_to_copy": "changes of type",
    "copy_": "changes of type",
}
OTHER = "other"
ORDER = ("1x1", "depthwise", "3x3", "batch norm", "ReLU6", "weight gathering", "changes of type")


class OperationProfiler(TorchDispatchMode):
    """Adds up time and bytes of all operations inside its ``with`` block, by kind.

    Attributes:
        seconds: time by kind.
        bytes: bytes of all tensors read and written, by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Runs one operation."""
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        elapsed = time.perf_counter() - start
        if func.is_view:
            return out
        kind = kind_of(func, args)
        self.seconds[kind] += elapsed
        self.bytes[kind] += sum(t.numel() * t.element_size() for t in _tensors((args, kwargs, out)))
        return out


def kind_of(func: Any, args: tuple[Any, ...]) -> str:  # noqa: ANN401
    """The kind of an operation, a column of the table."""
    name = func.overloadpacket.__name__
    if name in ("convolution", "convolution_overrideable"):
        return _convolution(args[1], int(args[8]))
    if name == "convolution_backward":
        return _convolution(args[2], int(args[9]))
    return KINDS.get(name, OTHER)


def _convolution(weight: Tensor, groups: int) -> str:
    if weight.shape[-1] == 1:
        return "1x1"
    return "depthwise" if weight.shape[1] == 1 and groups > 1 else "3x3"


def _tensors(values: object) -> Iterator[Tensor]:
    return (value for value in tree_iter(values) if isinstance(value, Tensor))


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("training_bytes", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.training_bytes", __doc__, program="python -m")
    parser.add_argument("config", nargs="*", default=list(CONFIGS), metavar="CONFIG")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="steps, after one to warm up")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    rows = [row for path in options.config for row in _rows(path, options)]
    columns = ["network", "", "all", *ORDER, OTHER]
    print(text_table(columns, rows))
    return 0


def _rows(path: str, options: argparse.Namespace) -> list[list[str]]:
    target = BenchmarkTarget(Path(path).stem, path, "torch", "bf16", options.threads, options.batch)
    step = open_training_step(target, TrainingStepOptions("fast"))
    step()
    profiles = []
    for _ in range(options.rounds):
        with OperationProfiler() as profile:
            step()
        profiles.append(profile)
    kinds = (*ORDER, OTHER)
    times = [1e3 * median(profile.seconds[kind] for profile in profiles) for kind in kinds]
    sizes = [profiles[-1].bytes[kind] / 1e6 for kind in kinds]
    return [
        [target.model, "ms", *(format_number(value, ".0f") for value in (sum(times), *times))],
        ["", "MB", *(format_number(value, ".0f") for value in (sum(sizes), *sizes))],
    ]


if __name__ == "__main__":
    sys.exit(main())

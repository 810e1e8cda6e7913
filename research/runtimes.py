r"""Times exported files of several formats in turn, and the variants of IGCV3's block in each.

Usage:
    python -m research.runtimes a.onnx a.xml a.param a.tflite a.pte [--threads 2] [--rounds 40]
    python -m research.runtimes --variants ncnn,litert --folder FOLDER
    python -m research.runtimes a.onnx a.param --threads 1 --clock cpu      on a busy machine

The first form times the files given, each in its own library, all in one process and in turn; sizes
include the weights beside a file. ``igcv3det benchmark`` compares models within one library; here
libraries are compared. The second form exports the configurations IGCV3-D and MobileNetV2 (random
weights) to FOLDER, IGCV3-D in each variant of `igcv3det.fastpath.deploy`, and times those of one
format in turn. "permuted" is the paper's block with folded norms, "shuffle" the same with PyTorch's
ChannelShuffle, for which converters may have a layer. Files that are in FOLDER already are used.

Exit status: 0 done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from torch import nn

from igcv3det.checkpoint import load_detector
from igcv3det.cli.command import command_parser, run_command
from igcv3det.detector import SSDLite
from igcv3det.export import export_detector
from igcv3det.export_formats import RUNTIMES, format_of
from igcv3det.fastpath.deploy import Variant
from igcv3det.measure.latency import ratios, time_in_turn
from igcv3det.measure.tables import text_table
from igcv3det.measure.targets import network_call
from igcv3det.models.layers import ChannelPermutation
from igcv3det.runtime import load_exported

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NETWORKS = {
    "mobilenetv2": "mobilenetv2_ssdlite320_coco.yaml",
    "igcv3": "igcv3_ssdlite320_coco.yaml",
}
VARIANTS = ("permuted", "shuffle", "dense", "mixed", "grouped")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("runtimes", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    if options.files:
        _print_times(options.files, options)
    for runtime in options.variants:
        _print_times(_variants(runtime, options.folder), options)
    return 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.runtimes", __doc__, program="python -m")
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE")
    add("--variants", type=lambda text: text.split(","), default=[], metavar="LIBRARIES")
    add("--folder", type=Path, default=Path("build/variants"))
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=40)
    add("--clock", choices=["wall", "cpu"], default="wall", help="processor time of all threads")
    options = parser.parse_args(args)
    if unknown := set(options.variants) - RUNTIMES.keys():
        parser.error(f"--variants: {', '.join(sorted(unknown))} is none of {', '.join(RUNTIMES)}")
    return options


def _variants(runtime: str, folder: Path) -> list[Path]:
    files = []
    for name, config in NETWORKS.items():
        for variant in VARIANTS if name == "igcv3" else ("dense",):
            path = folder / f"{name}-{variant}{RUNTIMES[runtime].suffix}"
            if not path.exists():
                detector = load_detector(CONFIGS / config)
                if variant == "shuffle":
                    _use_channel_shuffle(detector)
                own = "permuted" if variant == "shuffle" else variant
                try:
                    export_detector(detector, path, variant=cast(Variant, own))
                except ValueError as error:  # a layer that the format cannot express
                    print(f"left out: {error}")
                    continue
            files.append(path)
    return files


def _use_channel_shuffle(detector: SSDLite) -> None:
    for parent in list(detector.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ChannelPermutation):
                assert child.pieces == child.channels
                setattr(parent, name, nn.ChannelShuffle(child.groups))


def _print_times(files: list[Path], options: argparse.Namespace) -> None:
    opened = {str(path): load_exported(path, options.threads) for path in files}
    calls = {name: network_call(detector) for name, detector in opened.items()}
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    timings = time_in_turn(calls, options.rounds, clock=clock)
    cells = [
        [
            Path(timing.name).name,
            opened[timing.name].spec.precision,
            f"{_mebibytes(Path(timing.name)):.1f} MiB",
            f"{timing.median_ms:.1f} ms",
            f"{timing.spread_ms:.1f} ms",
            f"{ratio:.2f}",
        ]
        for timing, ratio in zip(timings, ratios(timings), strict=True)
    ]
    print(text_table(["file", "precision", "size", "median", "10-90 %", "ratio"], cells))


def _mebibytes(path: Path) -> float:
    second = format_of(path).weights_suffix
    files = [path, *([path.with_suffix(second)] if second else [])]
    return sum(file.stat().st_size for file in files) / 2**20


if __name__ == "__main__":
    sys.exit(main())

r"""Compares the latency of the variants of IGCV3's block, by library, precision and width.

Usage:
    python research/block_variants.py [--config configs/igcv3_ssdlite320_coco.yaml]
        [--against configs/mobilenetv2_ssdlite320_coco.yaml] [--backend torch,onnxruntime,openvino]
        [--precision fp32,bf16] [--threads 2] [--rounds 50] [--widths] [--json FILE]
    python research/block_variants.py --threads 1 --clock cpu      on a busy machine

The network (random weights) is built with all blocks in one variant, and as
`igcv3det.fastpath.deploy` builds it for the library; all are timed in turn. "permuted" is the
paper's block with folded norms. With --widths the variant of the blocks of one width at a time is
changed from deploy's choice, and the table has the difference: a negative one would be a better
choice. For ONNX Runtime a second table has the time by kind of operation.

Exit status: 0 done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

from igcv3det.checkpoint import load_detector
from igcv3det.cli.command import command_parser, run_command
from igcv3det.detector import SSDLite
from igcv3det.export.assemble import read_openvino, save_openvino
from igcv3det.fastpath.block_variants import BlockVariant, block_convs
from igcv3det.fastpath.deploy import VARIANTS, Variant, deploy
from igcv3det.measure.latency import Timing, time_in_turn
from igcv3det.measure.tables import text_table
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.runtime.sessions import open_session

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
WHOLE_VARIANTS = ("permuted", "dense", "mixed", "grouped")
BLOCK_VARIANTS = [BlockVariant(e, p) for e in ("dense", "grouped") for p in ("dense", "grouped")]
KINDS = {  # of ONNX Runtime's operations
    "Conv": "convolutions",
    "FusedConv": "convolutions",
    "QLinearConv": "convolutions",
    "ReorderInput": "layout changes",
    "ReorderOutput": "layout changes",
    "Transpose": "permutations",
}


class _Tuple(nn.Module):
    """A detector with a plain tuple of outputs, for the exporters."""

    def __init__(self, detector: SSDLite) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, offsets = self.detector(images)
        return logits, offsets


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("block_variants", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    detector, baseline = load_detector(options.config), load_detector(options.against)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for backend in options.backend:
            networks = {options.against.stem: deploy(baseline, "dense")}
            networks |= {
                variant: deploy(detector, cast(Variant, variant))
                for variant in (*WHOLE_VARIANTS, backend)
            }
            if options.widths:
                networks |= dict(_one_width_changed(detector, backend))
            for precision in options.precision:
                if (backend, precision) == ("onnxruntime", "bf16"):
                    continue
                folder = Path(name) / backend
                calls = {
                    n: _call(d, n, backend, precision, folder, options) for n, d in networks.items()
                }
                clock = time.process_time if options.clock == "cpu" else time.perf_counter
                timings = time_in_turn(calls, options.rounds, clock=clock)
                rows += _rows(timings, backend, precision)
            if backend == "onnxruntime":
                for variant in (options.against.stem, "permuted", backend):
                    _print_kinds(folder / f"{_file(variant)}.onnx", variant, options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.block_variants", __doc__, program="python -m")
    add = parser.add_argument
    add("--config", type=Path, default=CONFIGS / "igcv3_ssdlite320_coco.yaml")
    add("--against", type=Path, default=CONFIGS / "mobilenetv2_ssdlite320_coco.yaml")
    add("--backend", type=_words, default=["torch", "onnxruntime", "openvino"])
    add("--precision", type=_words, default=["fp32", "bf16"])
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=50)
    add("--clock", choices=["wall", "cpu"], default="wall", help="processor time of all threads")
    add("--widths", action="store_true")
    add("--json", type=Path, metavar="FILE")
    return parser.parse_args(args)


def _words(text: str) -> list[str]:
    return text.split(",")


def _one_width_changed(detector: SSDLite, backend: str) -> Iterator[tuple[str, SSDLite]]:
    """Deploy's network with the blocks of one width in each other variant."""
    assert isinstance(detector.backbone, IGCV3)
    blocks = [block for block in detector.backbone.blocks if isinstance(block, IGCV3Block)]
    chosen = {_width(block): VARIANTS[backend](block) for block in blocks}
    for width, own in chosen.items():
        for variant in BLOCK_VARIANTS:
            if variant != own:
                changed = chosen | {width: variant}
                name = f"{width[0]} to {width[1]}: {variant.expansion}, {variant.projection}"
                yield name, deploy(detector, lambda block, c=changed: c[_width(block)])  # type: ignore[misc]


def _width(block: IGCV3Block) -> tuple[int, int]:
    expand, _, project = block_convs(block)
    return expand.in_channels, project.out_channels


def _call(
    detector: SSDLite,
    name: str,
    backend: str,
    precision: str,
    folder: Path,
    options: argparse.Namespace,
) -> Callable[[], object]:
    size = detector.config.image_size
    images = torch.randn(1, 3, size, size)
    if backend == "torch":
        torch.set_num_threads(options.threads)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        # "permuted" is fastest contiguous: permutations lose the channels-last layout
        layout = torch.contiguous_format if name == "permuted" else torch.channels_last
        own = detector.to(dtype).to(memory_format=layout)
        batch = images.to(dtype).contiguous(memory_format=layout)
        return torch.inference_mode()(lambda: own(batch))
    path = folder / f"{_file(name)}.onnx"
    folder.mkdir(exist_ok=True)
    if not path.exists():
        torch.onnx.export(
            _Tuple(detector).eval(),
            (images,),
            str(path),
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    if backend == "openvino":
        path = _as_openvino(path)
    session = open_session(path, options.threads, bf16=precision == "bf16")
    array = images.numpy()
    return lambda: session.run(array)


def _as_openvino(path: Path) -> Path:
    import onnx

    xml = path.with_suffix(".xml")
    if not xml.exists():
        save_openvino(read_openvino(onnx.load(path)), xml, "")
    return xml


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _rows(timings: list[Timing], backend: str, precision: str) -> list[dict[str, Any]]:
    """Prints a table; the first timing is the baseline's."""
    baseline, own = timings[0], next(t for t in timings if t.name == backend)
    rows, cells = [], []
    for timing in timings:
        ratio, change = timing.median_ms / baseline.median_ms, timing.median_ms - own.median_ms
        name = "deploy's choice" if timing is own else timing.name
        cells.append(
            [
                name,
                f"{timing.median_ms:.2f}",
                f"{timing.spread_ms:.2f}",
                f"{ratio:.2f}",
                f"{change:+.2f}",
            ]
        )
        rows.append(
            {
                "variant": name,
                "backend": backend,
                "precision": precision,
                "median_ms": timing.median_ms,
                "ratio": ratio,
            }
        )
    header = [f"{backend} {precision}", "median ms", "10-90 %", "ratio", "change"]
    print(text_table(header, cells), "\n", flush=True)
    return rows


def _print_kinds(path: Path, variant: str, options: argparse.Namespace) -> None:
    """Prints time and bytes read and written by kind of operation."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.enable_profiling = True
    settings.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    images = torch.randn(port.shape).numpy()
    for _ in range(options.rounds):
        session.run(None, {port.name: images})
    times: dict[str, list[int]] = collections.defaultdict(list)
    kinds: dict[str, tuple[str, int]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"])
            args = event["args"]
            kinds[event["name"]] = (_kind(args), _bytes(args))
    milliseconds, megabytes = collections.Counter[str](), collections.Counter[str]()
    for node, durations in times.items():
        kind, size = kinds[node]
        milliseconds[kind] += sorted(durations)[len(durations) // 2] / 1e3  # type: ignore[assignment]
        megabytes[kind] += size / 1e6  # type: ignore[assignment]
    cells = [[k, f"{ms:.2f}", f"{megabytes[k]:.0f}"] for k, ms in milliseconds.most_common()]
    total = ["all", f"{sum(milliseconds.values()):.2f}", f"{sum(megabytes.values()):.0f}"]
    print(text_table([f"onnxruntime, {variant}", "ms", "MB"], [*cells, total]), "\n", flush=True)


def _kind(args: dict[str, Any]) -> str:
    kind = KINDS.get(args["op_name"], "other")
    if kind == "convolutions":
        weight = next(iter(args["input_type_shape"][1].values()))
        if weight[2:] == [1, 1]:
            return "1x1 convolutions"
        return "depthwise convolutions" if weight[1] == 1 else "stem"
    return kind


def _bytes(args: dict[str, Any]) -> int:
    size = 0
    for tensor in (*args["input_type_shape"], *args["output_type_shape"]):
        for dtype, shape in tensor.items():
            size += (4 if dtype == "float" else 1) * int(torch.tensor(shape).prod())
    return size


if __name__ == "__main__":
    sys.exit(main())

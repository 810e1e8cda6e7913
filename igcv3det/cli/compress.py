r"""Fits a trained detector or segmenter to a device, with unlabelled images alone.

Examples:
    igcv3det compress --checkpoint best.safetensors --images photos --output runs/compress
    igcv3det compress --checkpoint mobilenetv2 --images photos --output runs/compress \
        --latency 0.8 0.6 --parameters 0.75 --backend openvino

Every part of the network gets cheaper replacements (narrower blocks, IGCV3's grouped blocks, no
block; of detectors split and narrower prediction layers, of segmenters a narrower last 1x1). Each
starts from the network's weights, is trained alone against its features and judged by what it
changes in the outputs; its latency is measured on the backend. The best combination for each budget
is assembled and written to DIR, with report.md, report.json and front.png. Of a detector, smaller
inputs are tried as well, which leave time for more of the network. Train the result further as a
whole with the printed command: `igcv3det distill` for detectors, for segmenters `igcv3det train`
on images with masks.

Budgets are shares of the network's own cost; several make several networks. Two kinds of budgets
hold together: one value of a kind goes with all values of the other. A stopped run resumes
where it was; other budgets need only the last steps.

Exit status: 0 all done, 1 the network or the images cannot be used, or a budget cannot be met,
2 wrong call. A network that is slower in the last measurement than its budget is named.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import integers, positive_int, share, whole_number_from
from igcv3det.cli.command import command_parser, report, run_command, sigterm_interrupts
from igcv3det.export_formats import FORMATS, INT8_PARTS, RUNTIMES

if TYPE_CHECKING:
    from igcv3det.tasks.compress.front import Point
    from igcv3det.tasks.compress.input_size import InputSizes
    from igcv3det.tasks.compress.search import Search
    from igcv3det.tasks.compress.training import PartTraining

MEASURES = ("latency", "multiply_adds", "parameters")
DEFAULT_LATENCIES = (0.8, 0.6)


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("compress", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("compress", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="MODEL", help="a file or a name")
    add("--images", required=True, metavar="DIR", help="unlabelled images like those in use")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    for measure in MEASURES:
        add(
            f"--{measure.replace('_', '-')}",
            type=share,
            nargs="+",
            metavar="SHARE",
            help=f"budgets, shares of the network's own {measure.replace('_', '-')}"
            + (" (default, if no budget is given: 0.8 0.6)" if measure == "latency" else ""),
        )
    backends = (*RUNTIMES, "torch")
    add("--backend", choices=backends, default="onnxruntime", help="(default: onnxruntime)")
    help_ = "that is timed; the results are float32 (default: fp32)"
    add("--precision", choices=["fp32", "int8"], default="fp32", help=help_)
    add("--threads", type=positive_int, default=2, help="of the backend (default: 2)")
    _add_search_options(parser)
    options = parser.parse_args(args)
    options.budgets = _budgets(parser, options)
    _check(parser, options)
    return options


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    """What is tried, and for how long."""
    add = parser.add_argument
    add(
        "--image-size",
        type=positive_int,
        nargs="+",
        default=[],
        metavar="N",
        help="sides of a detector's input that are tried, pixels (default: the detector's own, and "
        "for budgets of latency or multiply-adds smaller ones)",
    )
    add("--workers", type=positive_int, default=2, help="candidates trained at once (default: 2)")
    add(
        "--image-count",
        type=whole_number_from(2),
        default=512,
        help="images trained on (default: 512)",
    )
    add("--steps", type=positive_int, default=160, help="for each candidate (default: 160)")
    add("--finish-steps", type=int, default=80, help="for each part, assembled (default: 80)")
    add(
        "--grouped-stages",
        type=integers,
        default=[],
        metavar="N,N",
        help="stages, 1 to 7, in which only IGCV3's grouped blocks are allowed",
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the process where options do not go together."""
    backends = [FORMATS[name].runtime for name in INT8_PARTS]
    if not set(options.grouped_stages) <= set(range(1, 8)):
        parser.error("--grouped-stages takes numbers from 1 to 7")
    if options.precision == "int8" and options.backend not in backends:
        parser.error(f"--precision int8 needs --backend {' or '.join(backends)}")
    if options.output.resolve() == Path(options.images).resolve():
        parser.error("--output needs another folder than --images: front.png is an image too")
    if options.finish_steps < 0:
        parser.error("--finish-steps must be >= 0")


def _budgets(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> list[dict[str, float]]:
    given = {m: getattr(options, m) for m in MEASURES if getattr(options, m)}
    given = given or {"latency": list(DEFAULT_LATENCIES)}
    count = max(len(values) for values in given.values())
    if any(len(values) not in (1, count) for values in given.values()):
        parser.error("budgets of two kinds need equally many values, or one of a kind")
    # as precise as the files' names: two budgets of one name would be two choices for one file
    budgets = [
        {m: float(f"{values[n if len(values) > 1 else 0]:g}") for m, values in given.items()}
        for n in range(count)
    ]
    return [own for n, own in enumerate(budgets) if own not in budgets[:n]]


def _run(options: argparse.Namespace) -> int:
    with sigterm_interrupts():
        return _compress(options)


def _compress(options: argparse.Namespace) -> int:
    from igcv3det.measure.memory import peak_so_far_mib
    from igcv3det.tasks.compress.front import front, measured_shares, unmet
    from igcv3det.tasks.compress.input_size import InputSizes
    from igcv3det.tasks.compress.network_files import is_written, write_point
    from igcv3det.tasks.compress.report import require_files, write_report
    from igcv3det.tasks.compress.training import PartTraining

    search = _search(options)
    require_files(search, options.output)
    sizes = InputSizes(search)
    finishing = PartTraining(options.finish_steps, lr=1e-3)
    # refuses another's file before any work
    written = [is_written(search, budgets, finishing) for budgets in options.budgets]
    # what is written is reported anyway
    search.run([] if any(written) else [(own, sizes.at_most(own)) for own in options.budgets])
    points, failures = _points(sizes, options.budgets, finishing)
    if not points:  # the report of earlier calls stays
        raise ValueError("; ".join(failures))
    files = [write_point(search, point, finishing, options.output) for point in points]
    shares = measured_shares(search, points)
    curve = front(search, next(iter(options.budgets[0])))
    search.peaks["assembly"] = peak_so_far_mib()
    note = write_report(search, points, shares, curve, options.output)
    for point, latency, file in zip(points, shares, files, strict=True):
        _print_point(options, search, point, latency, file)
    print(_memory(search.peaks, options.workers))
    if note:
        print(note)
    print(f"Tables are in {options.output / f'{search.prefix}report.md'}")
    # slower than wanted is often other load on the machine: said, and no failure
    for line in [*failures, *filter(None, map(unmet, points, shares))]:
        report("compress", line)
    return 1 if failures else 0


def _points(
    sizes: InputSizes, wanted: list[dict[str, float]], finishing: PartTraining
) -> tuple[list[Point], list[str]]:
    """A point for each budget that can be kept, and what is said about the others."""
    from igcv3det.tasks.compress.network_files import recorded_point

    points, failures = [], []
    for budgets in wanted:
        try:
            recorded = recorded_point(sizes.search, budgets, finishing)
            points.append(recorded or sizes.choose(budgets))
        except ValueError as error:
            failures.append(str(error))
    return points, failures


def _print_point(
    options: argparse.Namespace, search: Search, point: Point, latency: float, file: Path
) -> None:
    from igcv3det.tasks.compress.front import unchanged_parts

    size = "" if point.size is None else f"{point.size[1]} px, "
    print(
        f"{file}: {size}latency {latency:.3f} (predicted {point.costs['latency']:.3f}), "
        f"multiply-adds {point.costs['multiply_adds']:.3f}, "
        f"parameters {point.costs['parameters']:.3f}"
    )
    unchanged = unchanged_parts(search, point)
    command = search.teacher.final_command(file, unchanged, options.images, search.readable)
    print(f"  train it as a whole: {command}")


def _memory(peaks: dict[str, float], workers: int) -> str:
    """One line: the process itself until the end of each stage, and its workers."""
    own = ", ".join(f"{k} {v / 1024:.1f}" for k, v in peaks.items() if k != "worker")
    line = f"Peak memory, GiB: {own}"
    worker = peaks.get("worker")
    return line + f"; each of {workers} workers up to {worker / 1024:.1f}" if worker else line


def _search(options: argparse.Namespace) -> Search:
    """The search that the options ask for."""
    from igcv3det.tasks.compress.options import SearchOptions
    from igcv3det.tasks.compress.search import Search
    from igcv3det.tasks.compress.training import PartTraining

    wanted = SearchOptions(
        checkpoint=options.checkpoint,
        images=options.images,
        folder=options.output,
        backend=options.backend,
        threads=options.threads,
        precision=options.precision,
        workers=options.workers,
        image_count=options.image_count,
        grouped_stages=tuple(options.grouped_stages),
        measures=tuple(options.budgets[0]),
        image_sizes=tuple(sorted(set(options.image_size))),
        training=PartTraining(options.steps),
    )
    return Search(wanted, say=lambda line: print(line, flush=True))

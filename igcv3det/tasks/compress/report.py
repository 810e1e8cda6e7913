"""The report of a search: tables in Markdown, figures in JSON, the front as an image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.tasks.compress.choice import shown
from igcv3det.tasks.compress.front import Point, describe_point
from igcv3det.tasks.compress.price_files import read_original
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.work_folder import REPORTS, read_mapping

MOST_OFF = 0.05
"""What the sum of the parts' latencies may differ from a whole network's, as a share."""
_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 7.0, 4.5, 120


def require_files(search: Search, folder: Path) -> None:
    """Raises IsADirectoryError where a folder has the name of a report."""
    for name in REPORTS:
        path = folder / f"{search.prefix}{name}"
        if path.is_dir():
            raise IsADirectoryError(f"{path}: a folder; move it away")


def write_report(
    search: Search,
    points: Sequence[Point],
    measured: Sequence[float],
    curve: Sequence[Point],
    folder: Path,
) -> str:
    """Writes ``report.json``, ``report.md`` and ``front.png``.

    The networks of earlier reports whose files are still there stay in the tables.

    Args:
        search: done.
        points: the networks that were written.
        measured: their latency as shares of the original's.
        curve: points of the whole front.
        folder: for the files.

    Returns:
        A warning where predicted and measured latencies differ by much, else an empty text.
    """
    own = search.own_costs
    machine = read_original(search.folder).machine
    teacher = search.teacher
    measured_by = {"backend": search.options.runtime, "threads": search.options.threads}
    rows = [
        describe_point(point, share) | {"input": list(point.size or teacher.size)} | measured_by
        for point, share in zip(points, measured, strict=True)
    ]
    networks = [*_earlier(search, folder, points), *rows]
    content = {
        "checkpoint": search.options.checkpoint,
        "kind": teacher.kind,
        "divergence": f"divergence of {teacher.divergence_name}",
        **measured_by,
        "machine": machine,
        "images": {"used": search.used, "unreadable": search.unreadable},
        "original": own._asdict(),
        f"{teacher.kind}s": networks,
        "front": [describe_point(point, None) for point in curve],
        "peak_memory_mib": search.peaks,
        "candidates": _candidates(search),
    }
    atomic_write(folder / f"{search.prefix}report.json", json.dumps(content, indent=1))
    text = _markdown(content, networks)
    atomic_write(folder / f"{search.prefix}report.md", text)
    draw_front(curve, points, search.options.measures[0], folder / f"{search.prefix}front.png")
    return off_note(rows)


def _earlier(search: Search, folder: Path, points: Sequence[Point]) -> list[dict[str, Any]]:
    """The networks of earlier calls, as reported then, whose files are still there."""
    try:
        content = read_mapping(folder / f"{search.prefix}report.json")
        by = {"backend": content["backend"], "threads": content["threads"]}
        found = [by | row for row in content[f"{search.teacher.kind}s"]]
        reported = [row for row in found if row["name"] not in {point.name for point in points}]
        kept = [
            r for r in reported if (folder / f"{search.prefix}{r['name']}.safetensors").is_file()
        ]
        # what the tables need of them must be there
        return [row | {"replaced": dict(row["replaced"])} for row in kept if _lines_of(row)]
    except (FileNotFoundError, ValueError, LookupError, TypeError, ArithmeticError):
        return []  # none, or damaged: it is written anew


def _lines_of(row: dict[str, Any]) -> list[str]:
    return [*_markdown_rows([row]), *_agreement_lines([row])]


def off_note(networks: Sequence[dict[str, Any]]) -> str:
    """A warning where predicted and measured latencies differ by much, else an empty text."""
    off = [row["predicted"]["latency"] / row["measured_latency"] - 1 for row in networks]
    worst = max(off, key=abs, default=0.0)
    if abs(worst) <= MOST_OFF:
        return ""
    return (
        f"Predicted and measured latency differ by {worst:+.1%}, more than {MOST_OFF:.0%}: other "
        "load disturbed one of them, or the parts' times do not add up on this backend."
    )


def _candidates(search: Search) -> list[dict[str, Any]]:
    return [
        {
            "position": judged.candidate.position,
            "name": judged.candidate.name,
            **judged.price._asdict(),
            "loss": judged.loss if math.isfinite(judged.loss) else None,
        }
        for own in search.judged().values()
        for judged in own
    ]


def _markdown(content: dict[str, Any], networks: Sequence[dict[str, Any]]) -> str:
    own, images = content["original"], content["images"]
    lines = [
        f"# {content['checkpoint']}, compressed",
        "",
        f"{content['backend']}, {content['threads']} thread{'s' * (content['threads'] > 1)}, "
        f"{content['machine']}; "
        f"{images['used']} images, {images['unreadable']} unreadable. The original: "
        f"{own['latency']:.2f} ms, {own['multiply_adds'] / 1e6:.0f} M multiply-adds, "
        f"{own['parameters'] / 1e6:.2f} M parameters.",
        "",
        f"Shares of the original; loss: {content['divergence']} in nats for an image, the sum over "
        "the replaced parts at the original's input size, before any training together.",
        "",
        f"| {content['kind']} | input, px | backend, threads | latency, predicted | measured | "
        "off | multiply-adds | parameters | loss |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
        *_markdown_rows(networks),
    ]
    note = off_note(networks)
    lines += ["", f"**{note}**"] * bool(note)
    names = [row["name"] for row in networks]
    lines += ["", "| part | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for position in dict.fromkeys(row["position"] for row in content["candidates"]):
        cells = [row["replaced"].get(position, "") for row in networks]
        lines.append(f"| {position} | " + " | ".join(cells) + " |")
    lines += _agreement_lines(networks)
    return "\n".join([*lines, *_candidate_lines(content["candidates"])]) + "\n"


def _markdown_rows(networks: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for row in networks:
        predicted, measured = row["predicted"], row["measured_latency"]
        rows.append(
            f"| {row['name']} | {'x'.join(map(str, row['input']))} | {row['backend']}, "
            f"{row['threads']} | {predicted['latency']:.3f} | "
            f"{measured:.3f} | {predicted['latency'] / measured - 1:+.1%} | "
            f"{predicted['multiply_adds']:.3f} | "
            f"{predicted['parameters']:.3f} | {_loss(row['loss'])} |"
        )
    return rows


def _agreement_lines(networks: Sequence[dict[str, Any]]) -> list[str]:
    tried = {row["name"]: row["agreement"] for row in networks if row["agreement"]}
    if not tried:
        return []
    lines = [
        *("", "## Input sizes", ""),
        "AP against the original's detections, of the network of least loss for each size.",
        "",
        "| side, px | " + " | ".join(tried) + " |",
        "|---:" * (len(tried) + 1) + "|",
    ]
    for side in sorted({side for own in tried.values() for side in own}):
        cells = [f"{own[side]:.3f}" if side in own else "" for own in tried.values()]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return lines


def _loss(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f}"


def _candidate_lines(candidates: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        *("", "## Candidates", ""),
        "| part | candidate | latency, ms | multiply-adds, M | parameters, k | loss |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in candidates:
        loss = "not trained" if row["loss"] is None else f"{row['loss']:.2f}"
        lines.append(
            f"| {row['position']} | {row['name']} | {row['latency']:+.3f} | "
            f"{row['multiply_adds'] / 1e6:+.1f} | {row['parameters'] / 1e3:+.1f} | {loss} |"
        )
    return lines


def draw_front(curve: Sequence[Point], points: Sequence[Point], measure: str, path: Path) -> None:
    """Draws loss against the share of a measure, and the networks that were written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([p.costs[measure] for p in curve], [p.loss for p in curve], marker=".")
    for point in (p for p in points if math.isfinite(p.loss)):
        axes.plot(point.costs[measure], point.loss, marker="o", color="tab:red")
        axes.annotate(point.name, (point.costs[measure], point.loss), fontsize=8)
    axes.set_xlabel(f"{shown(measure)}, share of the original's")
    axes.set_ylabel("divergence of the outputs, nats for an image")
    axes.grid(visible=True, alpha=0.3)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=_DPI, format="png")

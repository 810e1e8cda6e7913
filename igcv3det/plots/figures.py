"""Figures of an evaluation: curves, confusion matrix, types of errors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from igcv3det.evaluation.analysis import Analysis
from igcv3det.evaluation.coco_matches import MATCH_IOU, RECALLS
from igcv3det.evaluation.curves import ClassCurves
from igcv3det.evaluation.error_types import ErrorTypes

DPI = 100
NAMED_CURVES = 10  # more names in a legend are illegible
LOWEST = 5  # that are named where there are more classes
GRID_CLASSES = 100
NAMED_CLASSES = 40  # more names beside a matrix are illegible
NUMBERED_CLASSES = 20  # more numbers in a matrix are illegible
_PRECISION_COLOUR, _F1_COLOUR = "tab:blue", "tab:orange"


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, Path]:
    """Draws all figures as PNG files.

    Args:
        analysis: of an evaluation.
        folder: exists.

    Returns:
        The files by what they show.
    """
    figures = {
        "pr_curves": _precision_figure(analysis),
        "f1_curves": _f1_figure(analysis),
        "class_curves": _grid_figure(analysis.classes),
        "confusion_matrix": _confusion_figure(analysis),
        "error_types": _error_figure(analysis.errors),
    }
    files = {}
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        files[name] = folder / f"{name}.png"
        figure.savefig(files[name], dpi=DPI)
    return files


def _precision_figure(analysis: Analysis) -> Figure:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = [(curves, RECALLS, curves.precision, curves.ap50) for curves in analysis.classes]
    _draw_classes(axes, lines)
    overall = analysis.overall
    label = f"mean of the classes {overall.ap50:.3f}"
    axes.plot(RECALLS, overall.precision, color="black", linewidth=2.5, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Precision over recall at IoU {MATCH_IOU:.2f}, with AP50")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _f1_figure(analysis: Analysis) -> Figure:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = [
        (curves, curves.thresholds, curves.f1_at, curves.best.f1 if curves.best else 0.0)
        for curves in analysis.classes
    ]
    _draw_classes(axes, lines)
    overall = analysis.overall
    best = overall.best
    label = f"all classes {best.f1:.3f} at {best.threshold:.3f}" if best else "all classes"
    axes.plot(overall.thresholds, overall.f1_at, color="black", linewidth=2.5, label=label)
    if best:
        axes.plot([best.threshold], [best.f1], "o", color="black")
    span = overall.thresholds[0], overall.thresholds[-1]
    axes.set(xlabel="score threshold", ylabel="F1", xlim=span, ylim=(0, 1.02))
    axes.set_title(f"F1 over the score threshold at IoU {MATCH_IOU:.2f}, with the highest F1")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper right")
    return figure


def _draw_classes(
    axes: Axes, lines: Sequence[tuple[ClassCurves, NDArray[np.float64], NDArray[np.float64], float]]
) -> None:
    """A line a class: all named, or in grey with the lowest named."""
    lines = [line for line in lines if line[0].objects]
    named = {id(line[0]) for line in sorted(lines, key=lambda line: line[3])[:LOWEST]}
    for curves, x, y, figure in lines:
        if len(lines) <= NAMED_CURVES or id(curves) in named:
            axes.plot(x, y, linewidth=1.3, label=f"{_shown(curves)} {figure:.3f}")
        else:
            axes.plot(x, y, linewidth=0.6, color="0.75", zorder=1)


def _grid_figure(classes: Sequence[ClassCurves]) -> Figure:
    """A small panel a class: precision over recall, and F1 over the threshold."""
    shown = sorted((c for c in classes if c.objects), key=lambda c: -c.objects)[:GRID_CLASSES]
    columns = max(1, math.ceil(math.sqrt(len(shown) * 0.8)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(max(5.0, 1.7 * columns), 1.8 * rows + 1), layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[NDArray[np.float64]]] = {_PRECISION_COLOUR: [], _F1_COLOUR: [], "0.6": []}
    for index, curves in enumerate(shown):
        left, bottom = 1.15 * (index % columns), -1.5 * (index // columns)
        corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
        lines["0.6"].append(np.array(corners) + np.array([left, bottom]))
        span = curves.thresholds[-1] - curves.thresholds[0]
        shares = (curves.thresholds - curves.thresholds[0]) / span
        for colour, x, y in (
            (_PRECISION_COLOUR, RECALLS, curves.precision),
            (_F1_COLOUR, shares, curves.f1_at),
        ):
            lines[colour].append(np.stack([x + left, y + bottom], axis=1))
        best = f"F1 {curves.best.f1:.2f} at {curves.best.threshold:.2f}" if curves.best else "F1 0"
        text = f"{_shown(curves, 16)} ({curves.objects})\nAP50 {curves.ap50:.2f}, {best}"
        axes.text(left, bottom + 1.04, text, fontsize=6.5, va="bottom")
    for colour, segments in lines.items():
        axes.add_collection(LineCollection(segments, colors=colour, linewidths=1))
    axes.set(xlim=(-0.05, 1.15 * columns), ylim=(-1.5 * (rows - 1) - 0.1, 1.45))
    axes.set_axis_off()
    left_out = sum(bool(curves.objects) for curves in classes) - len(shown)
    title = "Precision over recall (blue), F1 over the score threshold (orange)"
    most = f"\nthe {len(shown)} classes with the most objects" if left_out else ""
    axes.set_title(title + most, fontsize=9)
    return figure


def _confusion_figure(analysis: Analysis) -> Figure:
    """Each row is shaded by its shares."""
    counts, threshold = analysis.confusion, analysis.threshold
    names = [*map(_shown, analysis.classes), "background"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(names)
    side = 3.5 + 0.3 * min(classes, NAMED_CLASSES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    axes.set(xlabel="detected class (background: missed)")
    axes.set(ylabel="true class (background: no object)")
    axes.set_title(f"Confusion at IoU {MATCH_IOU:.2f}, score >= {threshold:.3f}", fontsize=10)
    if classes <= NAMED_CLASSES:
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= NUMBERED_CLASSES:
        for row, column in np.argwhere(counts).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    return figure


def _error_figure(errors: ErrorTypes) -> Figure:
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    bars = {
        **errors.types,
        "all false positives": errors.false_positives,
        "all false negatives": errors.false_negatives,
    }
    gains = [kind.gain for kind in bars.values()]
    colours = ["tab:blue"] * len(errors.types) + ["0.6"] * 2
    drawn = axes.barh(list(bars), gains, color=colours)
    labels = [f" {kind.gain:.3f} ({kind.count})" for kind in bars.values()]
    axes.bar_label(drawn, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="AP50 gained without these errors (number of errors)")
    axes.set_xlim(0, max([*gains, 0.01]) * 1.2)
    axes.set_title(f"Types of errors; AP50 is {errors.ap50:.3f}", fontsize=10)
    return figure


def _shown(curves: ClassCurves, length: int = 24) -> str:
    """The class name as one short line, or the category id if the font lacks its letters."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in curves.name).split())
    if not plain or not {ord(letter) for letter in plain} <= _letters():
        return f"id {curves.category_id}"
    short = plain if len(plain) <= length else f"{plain[: length - 3]}..."
    return short.replace("$", r"\$")  # no formulas


@functools.cache
def _letters() -> set[int]:
    """Those that Matplotlib's font has."""
    return set(get_font(findfont(FontProperties())).get_charmap())

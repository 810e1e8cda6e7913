"""A confusion matrix as an image."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igcv3det.tasks.classify.evaluation import Evaluation

NAMED_CLASSES = 40  # more names are illegible
NUMBERED_CLASSES = 20  # more numbers are illegible


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draws the confusion matrix; each row is shaded by its shares of the true class's images.

    Args:
        evaluation: confusion matrix, class names and accuracies.
        path: ``.png`` file to write; its folder must exist.
    """
    counts = evaluation.confusion
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    classes = len(evaluation.names)
    side = 3 + 0.3 * min(classes, NAMED_CLASSES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class's images")
    axes.set(
        xlabel="predicted class",
        ylabel="true class",
        title=f"top-1 {evaluation.top1:.2%}, {evaluation.images} images",
    )
    if classes <= NAMED_CLASSES:
        axes.set_xticks(range(classes), evaluation.names, rotation=90)
        axes.set_yticks(range(classes), evaluation.names)
    if classes <= NUMBERED_CLASSES:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.savefig(path, dpi=110)

"""The folder of an evaluation's plots: PNG files, ``plots.json`` and ``report.html``."""

from __future__ import annotations

import json
from pathlib import Path

from igcv3det.atomic_files import atomic_write
from igcv3det.datasets.image_files import ImageFolder
from igcv3det.evaluation.analysis import Analysis
from igcv3det.evaluation.coco_scoring import CocoMetrics, metrics_as_json
from igcv3det.plots.figures import draw_figures
from igcv3det.plots.report import report_page
from igcv3det.plots.worst_images import write_worst_images

NUMBERS, REPORT = "plots.json", "report.html"


def require_new_folder(folder: Path) -> None:
    """Refuses a folder in which something could be written over.

    Raises:
        OSError: it holds something, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; plots go to a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: is not empty; name a new folder for the plots")


def write_plots(
    folder: Path,
    analysis: Analysis,
    metrics: CocoMetrics,
    title: str,
    images: ImageFolder | None = None,
) -> list[Path]:
    """Draws the figures and writes all numbers and the report.

    Args:
        folder: made if it does not exist; files of an earlier call are replaced.
        analysis: of an evaluation.
        metrics: COCO's figures of the same evaluation.
        title: of the report, such as the names of model and data.
        images: of the data set, for the images with the most errors; None draws none.

    Returns:
        The image files.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_figures(analysis, folder)
    worst = write_worst_images(analysis, images, folder) if images else {}
    content = {"title": title, "metrics": metrics_as_json(metrics), **analysis.as_dict()}
    for image in content["images_with_errors"]:
        file = worst.get(image["image_id"])
        image["drawn"] = file.name if file else None
    atomic_write(folder / NUMBERS, json.dumps(content), durable=False)
    page = report_page(title, metrics, analysis, figures, worst)
    atomic_write(folder / REPORT, page, durable=False)
    return [*figures.values(), *worst.values()]

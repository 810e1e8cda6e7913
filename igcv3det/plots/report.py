"""An evaluation as one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import PIL.Image

from igcv3det.evaluation.analysis import Analysis
from igcv3det.evaluation.coco_matches import MATCH_IOU
from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES, CocoMetrics, metrics_as_json

JPEG_QUALITY = 80
CONFUSED_PAIRS = 10
_FIGURES = {
    "pr_curves": "Precision over recall",
    "f1_curves": "F1 over the score threshold",
}
_ERROR_TYPES = {
    "classification": "on an object of another class (IoU at least 0.5)",
    "localisation": "on an object of its class, but with IoU 0.1 to 0.5",
    "both": "neither class nor box fit",
    "duplicate": "on an object that a better detection has found",
    "background": "on no object (IoU at most 0.1)",
    "missed": "objects without any detection that a correction could use",
}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; } figcaption { overflow-wrap: anywhere; }
img { background: white; height: auto; max-width: 100%; }
.scroll { overflow-x: auto; } .scroll img { max-width: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8886; padding: .2rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.text, th.text { min-width: 14rem; text-align: left; }
td:first-child { white-space: nowrap; }
.metrics { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; padding: 0; }
.metrics li { border: 1px solid #8886; border-radius: .4rem; min-width: 4.2rem; }
.metrics li { padding: .3rem .6rem; }
.metrics b { display: block; font-size: 1.2rem; }
"""


def report_page(
    title: str,
    metrics: CocoMetrics,
    analysis: Analysis,
    figures: Mapping[str, Path],
    worst: Mapping[int, Path],
) -> str:
    """The page.

    Args:
        title: what was evaluated.
        metrics: COCO's figures.
        analysis: of the same evaluation.
        figures: PNG files of `draw_figures`.
        worst: drawn images by image id.
    """
    sections = [
        f"<h1>{escape(title)}</h1>",
        _summary(metrics, analysis),
        "<h2>Curves</h2>",
        *(_figure(figures[name], caption) for name, caption in _FIGURES.items()),
        _figure(figures["class_curves"], "Each class", scrolls=True),
        "<h2>Classes</h2>",
        _class_table(metrics, analysis),
        "<h2>Confusion matrix</h2>",
        _confusion(analysis, figures["confusion_matrix"]),
        "<h2>Types of errors</h2>",
        _errors(analysis, figures["error_types"]),
        "<h2>Images with the most errors</h2>",
        _worst(analysis, worst),
    ]
    head = (
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>"
    )
    body = "\n".join(sections)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    # names of files may hold bytes that are no UTF-8
    return page.encode("utf-8", "backslashreplace").decode()


def _summary(metrics: CocoMetrics, analysis: Analysis) -> str:
    values = metrics_as_json(metrics)
    figures = "".join(f"<li>{name}<b>{_number(values[name])}</b></li>" for name in SUMMARY_NAMES)
    overall = analysis.overall
    if overall.best:
        best = overall.best
        threshold = (
            f"The score threshold with the highest F1, all classes together, is "
            f"<b>{best.threshold:.3f}</b>: precision {best.precision:.3f}, recall "
            f"{best.recall:.3f}, F1 {best.f1:.3f}."
        )
    else:
        threshold = "No detection is right."
    return (
        f'<ul class="metrics">{figures}</ul>\n<p>{len(analysis.matches.image_ids)} images, '
        f"{overall.objects} objects, {overall.detections} detections. {threshold} Curves, matrix "
        f"and errors are counted at IoU {MATCH_IOU:.2f}, by the matching of COCO's AP50.</p>"
    )


def _class_table(metrics: CocoMetrics, analysis: Analysis) -> str:
    header = ["class", "objects", "AP", "AP50", "best threshold", "F1", "precision", "recall"]
    by_id = {entry["category_id"]: entry for entry in metrics["per_class"].values()}
    rows = []
    for curves in analysis.classes:
        entry, best = by_id[curves.category_id or 0], curves.best
        figures = (best.threshold, best.f1, best.precision, best.recall) if best else (None,) * 4
        cells = [_number(value) for value in (entry["AP"], curves.ap50, *figures)]
        rows.append([escape(curves.name), str(curves.objects), *cells])
    return _table(header, rows)


def _confusion(analysis: Analysis, figure: Path) -> str:
    names = [*(curves.name for curves in analysis.classes), "background"]
    counts = analysis.confusion
    pairs = [
        (int(counts[row, column]), names[row], names[column])
        for row in range(len(names))
        for column in range(len(names))
        if row != column and counts[row, column]
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [
        [escape(true), escape(detected), str(count)]
        for count, true, detected in pairs[:CONFUSED_PAIRS]
    ]
    caption = (
        f"Objects by their class and by that of the detection, IoU at least {MATCH_IOU:.2f}, score "
        f"at least {analysis.threshold:.3f}"
    )
    return _figure(figure, caption, scrolls=True) + _table(
        ["true class", "detected as", "number"], rows
    )


def _errors(analysis: Analysis, figure: Path) -> str:
    errors = analysis.errors
    rows = [
        [name, str(kind.count), f"{kind.gain:.3f}", _ERROR_TYPES[name]]
        for name, kind in errors.types.items()
    ]
    for name, kind in (
        ("all false positives", errors.false_positives),
        ("all false negatives", errors.false_negatives),
    ):
        rows.append([name, str(kind.count), f"{kind.gain:.3f}", ""])
    caption = (
        "What AP50 would gain if the errors of one type were corrected (TIDE); all detections "
        "count, whatever their score"
    )
    return _figure(figure, caption) + _table(["type", "number", "gain", "detections"], rows, 3)


def _worst(analysis: Analysis, worst: Mapping[int, Path]) -> str:
    if not analysis.images:
        return "<p>None has errors at this threshold.</p>"
    shown = [
        _figure(
            worst[image.image_id],
            f"{analysis.file_name(image.image_id)}: {image.false_positives} false positives, "
            f"{image.missed} missed",
            as_jpeg=True,
        )
        for image in analysis.images
        if image.image_id in worst
    ]
    note = (
        "Ground truth on the left, detections with a score of at least "
        f"{analysis.threshold:.3f} on the right; {len(analysis.images)} images have errors."
    )
    if not shown:
        note = f"{len(analysis.images)} images have errors; no images were given to draw them."
    return "\n".join([f"<p>{note}</p>", *shown])


def _figure(file: Path, caption: str, *, as_jpeg: bool = False, scrolls: bool = False) -> str:
    """An image with its caption; one that scrolls keeps its size on a small screen."""
    data, kind = file.read_bytes(), "png"
    if as_jpeg:
        buffer = io.BytesIO()
        with PIL.Image.open(file) as image:
            image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
        data, kind = buffer.getvalue(), "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    text, scroll = escape(caption), ' class="scroll"' if scrolls else ""
    return (
        f'<figure><div{scroll}><img loading="lazy" src="{source}" alt="{text}"></div>'
        f"<figcaption>{text}</figcaption></figure>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], text: int | None = None) -> str:
    """Cells are HTML; the first column and column ``text`` are left-aligned."""

    def line(cells: Sequence[str], tag: str) -> str:
        marked = [
            f'<{tag} class="text">{cell}</{tag}>' if index == text else f"<{tag}>{cell}</{tag}>"
            for index, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    head = line(header, "th")
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    """Three decimals; a hyphen where there is no figure."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"

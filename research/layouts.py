"""Converts a COCO data set to every layout that the package reads, and runs five commands on each.

Examples:
    python -m research.layouts bccd/bccd.coco.json bccd/BCCD/JPEGImages layouts
    python -m research.layouts bccd/bccd.coco.json bccd/BCCD/JPEGImages layouts --run --minutes 1
    python -m research.layouts bccd/bccd.coco.json bccd/BCCD/JPEGImages layouts --quick

In every layout the same fifth of the images is the validation split. With --run, check-data, train,
eval, predict and export run on each layout, and a table of their times, the loss of the last
training step and AP is printed. --quick runs them with a few training steps and images. Layouts of
the same data then have the same loss and AP; if not, the exit status is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.splitting import random_images
from igcv3det.measure.tables import text_table

_SAME = 1e-4  # shares of YOLO are rounded in the last bit of a float


class Box(NamedTuple):
    """An object: class name, and x, y, width, height in pixels."""

    name: str
    x: float
    y: float
    width: float
    height: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels."""
        return self.x, self.y, self.x + self.width, self.y + self.height


class ImageWithBoxes(NamedTuple):
    """An image with its objects."""

    path: Path
    width: int
    height: int
    boxes: list[Box]


Splits = Mapping[str, Sequence[ImageWithBoxes]]
Writer = Callable[[Path, Splits, Sequence[str]], None]


def write_coco(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """COCO's own layout."""
    for split, images in splits.items():
        place = _with_images(folder / f"{split}2017", images)
        file = folder / "annotations" / f"instances_{split}2017.json"
        _write_json(file, _coco(place, images, names))


def write_roboflow(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """Roboflow's export of COCO."""
    for split, images in splits.items():
        place = _with_images(folder / _valid(split), images)
        _write_json(place / "_annotations.coco.json", _coco(place, images, names))


def write_yolo(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """YOLO with images/ and labels/; an image without objects has an empty file."""
    for split, images in splits.items():
        _with_images(folder / "images" / split, images)
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        for image in images:
            lines = [
                f"{names.index(box.name)} {(box.x + box.width / 2) / image.width!r} "
                f"{(box.y + box.height / 2) / image.height!r} {box.width / image.width!r} "
                f"{box.height / image.height!r}\n"
                for box in image.boxes
            ]
            (labels / f"{image.path.stem}.txt").write_text("".join(lines), encoding="utf-8")
    listed = "".join(f"{split}: images/{split}\n" for split in splits)
    names_text = "".join(f"  {index}: {name}\n" for index, name in enumerate(names))
    (folder / "data.yaml").write_text(f"path: .\n{listed}names:\n{names_text}", encoding="utf-8")


def write_voc(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """Pascal VOC with the lists of ImageSets/Main."""
    for place in ("Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    for split, images in splits.items():
        _with_images(folder / "JPEGImages", images)
        stems = "".join(f"{image.path.stem}\n" for image in images)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(stems, encoding="utf-8")
        for image in images:
            file = folder / "Annotations" / f"{image.path.stem}.xml"
            file.write_text(voc_xml(image), encoding="utf-8")


def voc_xml(image: ImageWithBoxes) -> str:
    """The XML file of an image."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{escape(box.name)}</name>\n\t\t<difficult>0</difficult>\n"
        "\t\t<bndbox>\n"
        + "".join(
            f"\t\t\t<{tag}>{value:g}</{tag}>\n"
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box.edges, strict=True)
        )
        + "\t\t</bndbox>\n\t</object>\n"
        for box in image.boxes
    )
    return (
        f"<annotation>\n\t<filename>{escape(image.path.name)}</filename>\n\t<size>\n"
        f"\t\t<width>{image.width}</width>\n\t\t<height>{image.height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def write_labelme(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """LabelMe with a folder a split."""
    for split, images in splits.items():
        place = _with_images(folder / split, images)
        for image in images:
            shapes = [
                {
                    "label": box.name,
                    "points": [list(box.edges[:2]), list(box.edges[2:])],
                    "shape_type": "rectangle",
                }
                for box in image.boxes
            ]
            content = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes,
                "imagePath": image.path.name,
                "imageData": None,
                "imageHeight": image.height,
                "imageWidth": image.width,
            }
            _write_json(place / f"{image.path.stem}.json", content)


def write_cvat(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """CVAT for images, with the splits as subsets of one file."""
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in names)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>',
        f"<meta><task><labels>{labels}</labels></task></meta>",
    ]
    number = 0
    for split, images in splits.items():
        _with_images(folder / "images", images)
        for image in images:
            head = f'id="{number}" name={quoteattr(image.path.name)} subset="{split}"'
            lines.append(f'<image {head} width="{image.width}" height="{image.height}">')
            number += 1
            for box in image.boxes:
                edges = zip(("xtl", "ytl", "xbr", "ybr"), box.edges, strict=True)
                given = " ".join(f'{tag}="{value:g}"' for tag, value in edges)
                lines.append(f'<box label={quoteattr(box.name)} occluded="0" {given}></box>')
            lines.append("</image>")
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>\n"]))


def write_csv(folder: Path, splits: Splits, names: Sequence[str]) -> None:
    """A table a split."""
    for split, images in splits.items():
        _with_images(folder / "images", images)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label"])
            for image in images:
                for box in image.boxes:
                    edges = [f"{value:g}" for value in box.edges]
                    table.writerow([image.path.name, *edges, box.name])
                if not image.boxes:
                    table.writerow([image.path.name, *[""] * 5])


WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "roboflow": write_roboflow,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "csv": write_csv,
}


def images_with_boxes(record: AnnotationRecord, folder: Path) -> Splits:
    """The images of a record in the order of their names; a fifth of them is for validation."""
    boxes: list[list[Box]] = [[] for _ in range(len(record.images))]
    for row, label, box in zip(record.image_rows, record.labels, record.boxes, strict=True):
        boxes[row].append(Box(record.categories.names[label - 1], *box.tolist()))
    images = {}
    for entry, own in zip(record.images, boxes, strict=True):
        assert entry.size is not None
        height, width = entry.size
        images[entry.image_id] = ImageWithBoxes(folder / entry.file_name, width, height, own)
    held_out = random_images([(e.image_id, e.file_name) for e in record.images], 0.2, 0)
    ordered = sorted(images.items(), key=lambda pair: pair[1].path.name)
    return {
        "train": [image for number, image in ordered if number not in held_out],
        "val": [image for number, image in ordered if number in held_out],
    }


def main(args: list[str] | None = None) -> int:
    """Writes the layouts, and with --run times the commands; returns the exit status."""
    return run_command("layouts", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.layouts", __doc__, program="python -m")
    add = parser.add_argument
    add("annotations", type=Path, metavar="JSON", help="COCO annotation file")
    add("images", type=Path, metavar="DIR", help="folder of its images")
    add("output", type=Path, metavar="FOLDER", help="new folder for the layouts, one each")
    add("--only", choices=WRITERS, action="append", help="only this layout (may be repeated)")
    add("--run", action="store_true", help="run the five commands on each layout")
    add("--quick", action="store_true", help="run them with a few steps and images")
    add("--minutes", type=float, default=1.0, help="of training on each (default: 1)")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    record = read_coco(options.annotations)
    splits, names = images_with_boxes(record, options.images), sorted(record.categories.names)
    rows = []
    for layout in options.only or WRITERS:
        folder = options.output / layout
        if not folder.exists():
            folder.mkdir(parents=True)
            WRITERS[layout](folder, splits, names)
        print(f"{folder}: {sum(map(len, splits.values()))} images", flush=True)
        if options.run or options.quick:
            run = options.output / f"{layout}-run"
            length = _QUICK if options.quick else _Length(["--minutes", str(options.minutes)])
            rows.append(_run_commands(layout, folder, run, length))
            if rows[-1] is None:
                return 1
            print(_table([rows[-1]]), flush=True)  # the next layouts may take long
    return _report([row for row in rows if row is not None], must_agree=options.quick)


class _Length(NamedTuple):
    """Options that say how much each command does."""

    train: list[str]
    eval: list[str] = []  # noqa: RUF012 (never changed)


_QUICK = _Length(
    [
        *(
            "--data.batch_size",
            "4",
            "--trainer.max_steps",
            "12",
            "--trainer.limit_val_batches",
            "1",
        ),
        *("--model.optim.warmup_steps", "2", "--trainer.log_every_n_steps", "1"),
    ],
    ["--limit", "24"],
)


class _Run(NamedTuple):
    """What the commands did on a layout."""

    layout: str
    seconds: dict[str, float]
    loss: float
    average_precision: float


def _run_commands(layout: str, folder: Path, run: Path, length: _Length) -> _Run | None:
    """Runs the five commands on a data set; None where one failed, which is printed."""
    weights, metrics = run / "checkpoints" / "best.safetensors", run / "metrics.json"
    images = [p for p in sorted(folder.rglob("*")) if p.suffix in (".jpg", ".png")]
    checkpoint = ["--checkpoint", str(weights)]
    commands = [
        ["check-data", "--data", str(folder)],
        ["train", str(folder), "--output", str(run), *length.train],
        ["eval", *checkpoint, "--data", str(folder), "--output", str(metrics), *length.eval],
        ["predict", str(images[0]), *checkpoint, "--output", str(run / "drawn")],
        ["export", *checkpoint, "--output", str(run / "detector.onnx")],
    ]
    shutil.rmtree(run, ignore_errors=True)
    seconds = {}
    for command in commands:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "igcv3det", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds[command[0]] = time.perf_counter() - start
        if done.returncode:
            print(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
            return None
    return _Run(layout, seconds, _last_loss(run / "metrics.csv"), _metric(metrics, "AP"))


def _last_loss(file: Path) -> float:
    """The loss of the last training step in the metrics of a run."""
    with file.open(encoding="utf-8", newline="") as table:
        losses = [row.get("train/loss") for row in csv.DictReader(table)]
    return float([loss for loss in losses if loss][-1] or "nan")


def _metric(file: Path, name: str) -> float:
    return float(json.loads(file.read_text(encoding="utf-8"))[name])


def _table(runs: Sequence[_Run]) -> str:
    commands = list(runs[0].seconds)
    rows = [
        [
            run.layout,
            *(f"{run.seconds[name]:.1f}" for name in commands),
            f"{run.loss:.5f}",
            f"{run.average_precision:.4f}",
        ]
        for run in runs
    ]
    return text_table(["layout", *(f"{name}, s" for name in commands), "loss", "AP"], rows)


def _report(runs: Sequence[_Run], *, must_agree: bool) -> int:
    """Prints the table; returns the exit status."""
    if not runs:
        return 0
    print(_table(runs))
    first = runs[0]
    differing = [
        run.layout
        for run in runs
        if abs(run.loss - first.loss) > _SAME
        or abs(run.average_precision - first.average_precision) > _SAME
    ]
    if differing and must_agree:
        print(f"loss or AP differ from those of {first.layout}: {', '.join(differing)}")
        return 1
    return 0


def _with_images(folder: Path, images: Sequence[ImageWithBoxes]) -> Path:
    """The folder with the images, as hard links where the disk is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        target = folder / image.path.name
        try:
            os.link(image.path, target)
        except OSError:
            shutil.copyfile(image.path, target)
    return folder


def _coco(
    folder: Path, images: Sequence[ImageWithBoxes], names: Sequence[str]
) -> dict[str, object]:
    annotations = [
        {
            "image_id": number,
            "category_id": names.index(box.name) + 1,
            "bbox": [box.x, box.y, box.width, box.height],
            "area": box.width * box.height,
            "iscrowd": 0,
        }
        for number, image in enumerate(images, start=1)
        for box in image.boxes
    ]
    return {
        "images": [
            {"id": i, "file_name": one.path.name, "width": one.width, "height": one.height}
            for i, one in enumerate(images, start=1)
        ],
        "annotations": [{"id": i, **item} for i, item in enumerate(annotations, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def _valid(split: str) -> str:
    return "valid" if split == "val" else split


if __name__ == "__main__":
    raise SystemExit(main())

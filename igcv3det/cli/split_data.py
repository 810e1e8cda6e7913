"""Splits a data set into a training and a validation file.

Examples:
    igcv3det split-data data/mine --output FOLDER
    igcv3det split-data all.json --output FOLDER --share 0.2 --seed 0
    igcv3det split-data all.json --output FOLDER --validation names.txt

Writes FOLDER/instances_train.json and FOLDER/instances_val.json, COCO files, and prints the options
by which other commands read them with the images, which stay where they are. ``names.txt`` has one
image a line, with or without its extension and leading folders; without it, a random share is
chosen. Every image goes to one of the two with all its annotations, those of a COCO file with all
their fields; both get all categories. A file of other content is not overwritten.

Exit status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igcv3det.atomic_files import atomic_write
from igcv3det.cli.arguments import whole_number_from
from igcv3det.cli.command import command_parser, report, run_command
from igcv3det.cli.data_options import add_format
from igcv3det.cli.progress import counting_up
from igcv3det.cli.results import holds_other

OTHER_FILES = (".xml", ".csv", ".yaml", ".yml")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("split-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("split-data", __doc__)
    add = parser.add_argument
    add("annotations", type=Path, metavar="SOURCE", help="COCO annotation file, or any data set")
    add_format(parser)
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder for the two files")
    add("--validation", type=Path, metavar="FILE", help="names of validation images, one a line")
    add("--share", type=float, default=0.2, help="share of validation images (default: 0.2)")
    add(
        "--seed",
        type=whole_number_from(0),
        default=0,
        help="seed of the random choice (default: 0)",
    )
    options = parser.parse_args(args)
    if not 0 < options.share < 1:
        parser.error(f"--share must be between 0 and 1, got {options.share}")
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.datasets.splitting import images_of, named_images, part_of, random_images
    from igcv3det.datasets.text_files import read_text

    content, folder, notice = _content(options)
    source = options.annotations
    try:
        images = images_of(content)
        if options.validation:
            source = options.validation
            chosen = named_images(images, read_text(options.validation).splitlines())
        else:
            chosen = random_images(images, options.share, options.seed)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    known = {number for number, _ in images}
    if not 0 < len(chosen) < len(known):
        raise ValueError(
            f"{options.annotations}: {len(chosen)} of {len(known)} images for validation leaves "
            "one of the two empty"
        )
    parts = {
        options.output / f"instances_{name}.json": part_of(content, ids)
        for name, ids in (("train", known - chosen), ("val", chosen))
    }
    _write(parts, len(content["annotations"]), options.annotations)
    folder = folder or _images_folder(options.annotations, [name for _, name in images])
    print("\n".join(_uses(options.output, folder)))
    if notice:
        report("split-data", notice)
    return 0


def _content(options: argparse.Namespace) -> tuple[dict[str, Any], Path | None, str]:
    """What a COCO file has, or another data set would have as one.

    Returns:
        The content, the folder of the images where reading has found it, and what was left out.
    """
    from igcv3det.datasets.coco import read_sections
    from igcv3det.datasets.coco_writer import coco_content
    from igcv3det.datasets.dataset import Dataset
    from igcv3det.datasets.issues import summarize

    source: Path = options.annotations
    is_coco_file = options.format in (None, "coco") and not source.is_dir()
    if is_coco_file and source.suffix.lower() not in OTHER_FILES:
        return read_sections(source), None, ""
    with counting_up("images read") as progress:
        record, images = Dataset(source, options.format, progress).read("all")
    notice = summarize(record.issues, source) if record.issues else ""
    return coco_content(record), images, notice


def _images_folder(source: Path, names: Sequence[str]) -> Path | None:
    """The folder that file names of a COCO file start from; None where it is not known."""
    from igcv3det.datasets.formats.image_folder import find_images_folder
    from igcv3det.datasets.issues import AnnotationError
    from igcv3det.datasets.listings import FolderListing

    try:
        folder = find_images_folder(source, names)
    except AnnotationError:  # those of several splits have such names
        return None
    return folder if any(map(FolderListing(folder).find, names)) else None


def _uses(output: Path, images: Path | None) -> list[str]:
    """How other commands read the two files."""
    train, val = (output / f"instances_{name}.json" for name in ("train", "val"))
    below = folder = "DIR"
    if images is not None:
        folder = str(images)
        below = os.path.relpath(images.resolve(), output.resolve())
    paths = {
        "train_annotations": train.name,
        "train_images": below,
        "val_annotations": val.name,
        "val_images": below,
    }
    pairs = [word for name, path in paths.items() for word in (f"--data.{name}", path)]
    return [
        f"check-data, eval: {shlex.join(['--annotations', str(val), '--images', folder])}",
        f"train: {shlex.join([str(output), *pairs])}",
    ]


def _write(parts: dict[Path, dict[str, Any]], annotations: int, source: Path) -> None:
    try:
        texts = {path: json.dumps(part) for path, part in parts.items()}
    except RecursionError:
        raise ValueError(f"{source}: nested too deeply to be written again") from None
    for path, text in texts.items():
        if holds_other(path, text):
            raise FileExistsError(
                f"{path}: holds another data set; remove it or choose another folder"
            )
    for path, text in texts.items():
        atomic_write(path, text)
        images, own = (len(parts[path][section]) for section in ("images", "annotations"))
        print(f"{path}: {images} images, {own} annotations")
        annotations -= own
    if annotations:
        report("split-data", f"{source}: {annotations} annotations of no image are in neither file")

"""Packs a trained detector as pretrained weights of the package.

Example:
    python tools/release.py --checkpoint best.ckpt --facts facts.json --output FILE.safetensors

``facts.json`` has the metadata of the file: ``status`` ("preview" or "release"), ``figures``,
``data``, ``teachers`` ("none" if there are none), ``licence``. Other metadata of the checkpoint is
kept. The weights are stored as float16; ``--images`` reports the largest change of a score. Exit
status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.results import refuse_overwriting

if TYPE_CHECKING:
    from igcv3det.detector import SSDLite

STATUS = "status"
FACTS = (STATUS, "figures", "data", "teachers", "licence")
LIMIT_MB = 10


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("release", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("release", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="MODEL", help="detector to pack")
    add("--facts", type=Path, required=True, metavar="JSON", help="metadata of the file")
    add("--output", type=Path, required=True, metavar="FILE", help="file to write")
    add("--images", metavar="DIR", help="compare outputs on up to 32 of these images")
    options = parser.parse_args(args)
    refuse_overwriting(parser, options, [options.checkpoint, options.facts], ["output"])
    return options


def _run(options: argparse.Namespace) -> int:
    import torch

    from igcv3det.checkpoint import half_weights, load_detector, save_detector
    from igcv3det.weight_files import CHECKSUM, checksum, read_metadata

    facts = _facts(options.facts)
    detector = load_detector(options.checkpoint)
    if options.checkpoint.suffix == ".safetensors":
        facts = {**read_metadata(options.checkpoint), **facts}
    facts[CHECKSUM] = checksum(half_weights(detector))
    save_detector(detector, options.output, facts, dtype=torch.float16)
    size = options.output.stat().st_size / 1e6
    print(f"{options.output}: {size:.2f} MB, sha256 of the weights {facts[CHECKSUM]}")
    if size > LIMIT_MB:
        raise ValueError(f"{options.output}: more than {LIMIT_MB} MB")
    if options.images:
        _compare(detector, load_detector(options.output), options.images)
    return 0


def _facts(path: Path) -> dict[str, str]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    missing = [name for name in FACTS if not isinstance(facts.get(name), str)]
    if missing:
        raise ValueError(f"{path}: no text for {', '.join(missing)}")
    if facts[STATUS] not in ("preview", "release"):
        raise ValueError(f"{path}: {STATUS} must be preview or release, got {facts[STATUS]!r}")
    return dict(facts)


def _compare(detector: SSDLite, released: SSDLite, folder: str) -> None:
    import torch

    from igcv3det.io.images import read_image
    from igcv3det.io.sources import find_sources
    from igcv3det.preprocess import Preprocess

    preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
    files = find_sources([folder]).files
    paths = [file for file in files if isinstance(file, Path)][:32]
    if not paths:
        raise ValueError(f"{folder}: no image to compare on")
    worst = 0.0
    for path in paths:
        image = preprocess(read_image(path))[None]
        with torch.no_grad():
            ours, theirs = (d(image).logits[..., 1:].sigmoid() for d in (detector, released))
        if not theirs.isfinite().all():
            raise ValueError(f"{path}: the released file's scores are not finite in float16")
        worst = max(worst, float((ours - theirs).abs().max()))
    print(f"float16 changes scores by at most {worst:.4f} on {len(paths)} images")


if __name__ == "__main__":
    sys.exit(main())

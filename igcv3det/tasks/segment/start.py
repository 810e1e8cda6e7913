"""Starting a segmenter from the weights of a detector, a classifier or another segmenter."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from igcv3det.checkpoint import load_backbone
from igcv3det.config import BackboneConfig, config_from_dict, flatten
from igcv3det.description import described_kind, read_description
from igcv3det.pretrained import SUFFIXES_OF_WEIGHTS, resolve_model
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.segment.checkpoint import KIND, load_segmenter, read_segmenter_description
from igcv3det.tasks.segment.config import Triple
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.weight_files import existing_file, parse_file_description

logger = logging.getLogger(__name__)

CLASS_LAYERS = ("head.low_classifier.", "head.high_classifier.", "head.classifier.")


def starting_fields(weights: str | Path) -> dict[str, Any]:
    """The fields of `SegmenterConfig` that follow from weights, by dotted key.

    Of a detector or classifier: backbone, padding, mean and standard deviation; of a segmenter all
    but the number of classes; of a file without description, such as torchvision's, none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not readable, or its description does not fit.
    """
    path = existing_file(resolve_model(weights))
    if path.suffix not in SUFFIXES_OF_WEIGHTS:
        return {}
    description = parse_file_description(path, "backbone")
    kind = described_kind(description)
    if kind == KIND:
        config, _ = read_segmenter_description(description, path)
        fields = dataclasses.asdict(config)
        del fields["num_classes"]
        return flatten(fields)
    if kind == "detector":
        detector, _ = read_description(description, path)
        preprocess = detector.preprocess
        return _of_backbone(detector.backbone, detector.padding, preprocess.mean, preprocess.std)
    if kind == "classifier":
        classifier = config_from_dict(ClassifierConfig, description[kind], f"{path}: {kind}")
        if classifier.igcv2 is None:
            own = classifier.backbone, "symmetric", classifier.mean, classifier.std
            return _of_backbone(*own)
    return {}


def _of_backbone(config: BackboneConfig, padding: str, mean: Triple, std: Triple) -> dict[str, Any]:
    backbone = dataclasses.asdict(config)
    return flatten({"padding": padding, "backbone": backbone, "mean": mean, "std": std})


def load_start(segmenter: Segmenter, weights: str | Path) -> None:
    """Copies weights into a segmenter, in place.

    Of a detector or classifier the backbone; of a segmenter everything, except its class layers
    where the classes have other names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights do not fit; the message names the file and what differs.
    """
    path = existing_file(resolve_model(weights))
    described = path.suffix in SUFFIXES_OF_WEIGHTS
    description = parse_file_description(path, "backbone") if described else None
    config = segmenter.config
    _require_same_network(segmenter, path)
    if described_kind(description) != KIND:
        load_backbone(segmenter.backbone, path, config.backbone)
        return
    source, _ = load_segmenter(path)
    kept = source.state_dict()
    if source.names != segmenter.names:
        own = {k: v for k, v in segmenter.state_dict().items() if k.startswith(CLASS_LAYERS)}
        kept |= own
        logger.info("%s: other classes: the class layers are reinitialised", path)
    segmenter.load_state_dict(kept)


def _require_same_network(segmenter: Segmenter, path: Path) -> None:
    own = flatten(dataclasses.asdict(segmenter.config))
    wanted = starting_fields(path)
    fixed = ("padding", "head", "backbone.")
    free = ("backbone.dropout", "backbone.zero_init", "backbone.norm_momentum")
    differing = [
        f"{key} {value}, not {own[key]}"
        for key, value in wanted.items()
        if key.startswith(fixed) and not key.startswith(free) and own[key] != value
    ]
    if differing:
        raise ValueError(f"{path}: trained with {'; '.join(differing)}")

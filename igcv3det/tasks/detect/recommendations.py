"""What a data set suggests for training: image size, anchors, a map of stride 8."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from igcv3det.config import DetectorConfig
from igcv3det.datasets.store import AnnotationStore
from igcv3det.detector import build_detector
from igcv3det.tasks.detect.anchor_choice import STRIDE8, choose_anchors, stride8_coverage
from igcv3det.tasks.detect.object_sizes import SMALL_PX, fitting_size, narrow_share


class Recommendation(NamedTuple):
    """One of them.

    Attributes:
        name: what to change.
        detail: how, and why.
    """

    name: str
    detail: str


def recommend(store: AnnotationStore, config: DetectorConfig) -> Iterator[Recommendation]:
    """What would be better than a configuration; the choices are those of ``igcv3det train DATA``.

    Args:
        store: the data.
        config: the detector.
    """
    if store.is_crowd.all():
        return
    own = config.image_size
    share = narrow_share(store, own)
    size = fitting_size(own, share)
    if size != own:
        yield Recommendation(
            "image size",
            f"--model.detector.image_size {size} instead of {own}: {100 * share:.0f} % of the "
            f"objects are narrower than {SMALL_PX:.0f} px at {own} px, "
            f"{100 * narrow_share(store, size):.0f} % at {size} px",
        )
    config = dataclasses.replace(config, image_size=size)
    found = choose_anchors(store, config, build_detector(config).feature_sizes)
    at = f"at {size} px, IoU 0.5, mean of the classes"
    if found.shapes is not None:
        yield Recommendation(
            "anchors",
            f"fitted ones, as igcv3det train DATA makes them: they cover {100 * found.after:.1f} % "
            f"of the boxes, those of the detector {100 * found.before:.1f} % ({at})",
        )
    if (finer := stride8_coverage(store, config, found)) is not None:
        yield Recommendation(
            "stride 8",
            f"--{STRIDE8} {finer[0]:g} adds a map for small objects: its anchors and the others, "
            f"fitted, cover {100 * finer[1]:.1f} % of the boxes, without it "
            f"{100 * found.after:.1f} % ({at}); the map begins without weights and needs a long "
            "training",
        )

"""Which class of a data set each class of a detector is.

Ids alone are no proof: every data set has a class 1, and COCO's 80 classes carry the ids 1 to 90.
Names decide; ids only tell apart classes that share a name.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

UNKNOWN = -1  # a label without a class in the data set; COCO's ids are not negative


def match_categories(detector: Categories, dataset: Categories) -> NDArray[np.int64]:
    """The data set's category id of every label.

    A class belongs to the one with the same id and name, else to a free one with the same name,
    however numbered. Letter case, blanks, hyphens and underscores in names do not count. A detector
    whose classes were only ever numbered ("class 1", ...) has no names to compare: it is matched in
    the order of the ids, if the data set has as many classes.

    Returns:
        [K + 1]: entry ``label`` is a category id of the data set or `UNKNOWN`; entry 0 is
        `UNKNOWN`.

    Raises:
        ValueError: no class in common; names the classes of both.

    Example:
        >>> match_categories(Categories((1, 7), ("cat", "dog")), Categories((3, 9), ("Dog", "cow")))
        array([-1, -1,  3])
    """
    ids = np.full(len(detector) + 1, UNKNOWN, dtype=np.int64)
    if detector == Categories.numbered(len(detector)) and len(detector) == len(dataset):
        if detector.names != dataset.names:
            logger.warning("the detector's classes have no names: taken in the order of the ids")
        ids[1:] = sorted(dataset.ids)
        return ids
    free = {i: _plain(name) for i, name in zip(dataset.ids, dataset.names, strict=True)}
    wanted = dict(enumerate(map(_plain, detector.names), start=1))
    for label, category_id in enumerate(detector.ids, start=1):
        if free.get(category_id) == wanted[label]:
            ids[label] = category_id
            del free[category_id], wanted[label]
    for label, name in wanted.items():
        category_id = next((i for i, other in free.items() if other == name), UNKNOWN)
        if category_id != UNKNOWN:
            ids[label] = category_id
            del free[category_id]
    if (ids == UNKNOWN).all():
        raise ValueError(
            "the detector and the data set have no class in common: the detector knows "
            f"{_listed(detector)}; the data set has {_listed(dataset)}"
        )
    return ids


def _plain(name: str) -> str:
    return name.casefold().translate(str.maketrans("", "", " -_"))


def _listed(categories: Categories) -> str:
    named = [f"{i} {name!r}" for i, name in zip(categories.ids, categories.names, strict=True)]
    more = f" and {len(named) - 10} more" if len(named) > 10 else ""
    return (", ".join(named[:10]) + more) or "none"

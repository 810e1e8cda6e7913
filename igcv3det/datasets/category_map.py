"""Which class of one list of categories is which class of another.

Names decide, in fine-tuning as in evaluation. Ids alone prove nothing: every data set has a class
1, and COCO's 80 classes carry the ids 1 to 90; they only tell apart classes that share a name.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

UNKNOWN = np.iinfo(np.int64).min
"""Category id of a label without a class in the data set; no annotation file can have it."""

_SEPARATORS = str.maketrans("", "", " -_")


def match_names(first: Categories, second: Categories) -> dict[int, int]:
    """Pairs the classes of two lists by name, each class at most once.

    Exact names are paired first, then names that differ in letter case, blanks, hyphens,
    underscores or Unicode form only; these are logged. Among classes of one name, those that have
    the same category id are paired first, then the others in order.

    Returns:
        Labels of ``first`` to labels of ``second``, in the order of ``first``; classes without a
        partner are absent.

    Example:
        >>> match_names(Categories((1, 7), ("cat", "dog")), Categories((3, 9), ("Dog", "cow")))
        {2: 1}
    """
    exact = _paired(first, second, str, {})
    pairs = _paired(first, second, _normalised, exact)
    spelt = [
        f"{first.names[label - 1]!r} is {second.names[pairs[label] - 1]!r}"
        for label in sorted(pairs.keys() - exact.keys())
    ]
    if spelt:
        logger.warning("class names that differ in spelling only: %s", _shortened(spelt))
    return dict(sorted(pairs.items()))


def match_categories(detector: Categories, dataset: Categories) -> NDArray[np.int64]:
    """The data set's category id of every label, by `match_names`.

    A detector whose classes were only ever numbered ("class 1", ...) has no names to compare: it is
    matched in the order of the ids, if the data set has as many classes.

    Returns:
        [K + 1]: entry ``label`` is a category id of the data set or `UNKNOWN`; entry 0 is
        `UNKNOWN`.

    Raises:
        ValueError: no class in common; names the classes of both.
    """
    ids = np.full(len(detector) + 1, UNKNOWN, dtype=np.int64)
    if detector == Categories.numbered(len(detector)) and len(detector) == len(dataset):
        if detector.names != dataset.names:
            logger.warning("the detector's classes have no names: taken in the order of the ids")
        ids[1:] = sorted(dataset.ids)
        return ids
    for label, other in match_names(detector, dataset).items():
        ids[label] = dataset.ids[other - 1]
    if (ids == UNKNOWN).all():
        raise ValueError(
            "the detector and the data set have no class in common: the detector has "
            f"{_listed(detector)}; the data set has {_listed(dataset)}"
        )
    return ids


def _paired(
    first: Categories, second: Categories, key: Callable[[str], str], pairs: dict[int, int]
) -> dict[int, int]:
    """``pairs`` and those of the remaining labels whose names are equal under ``key``."""
    pairs = dict(pairs)
    taken = set(pairs.values())
    free = [
        (label, category_id, key(name))
        for label, (category_id, name) in enumerate(
            zip(second.ids, second.names, strict=True), start=1
        )
        if label not in taken
    ]
    by_id_and_name = {(category_id, name): label for label, category_id, name in free}
    by_name: dict[str, list[int]] = {}
    for label, _, name in free:
        by_name.setdefault(name, []).append(label)
    wanted = [label for label in range(1, len(first) + 1) if label not in pairs]
    for label in wanted:
        name = key(first.names[label - 1])
        other = by_id_and_name.get((first.ids[label - 1], name))
        if other is not None:
            pairs[label] = other
            by_name[name].remove(other)
    for label in wanted:
        others = by_name.get(key(first.names[label - 1]))
        if label not in pairs and others:
            pairs[label] = others.pop(0)
    return pairs


def _normalised(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().translate(_SEPARATORS)


def _listed(categories: Categories) -> str:
    named = [f"{i} {name!r}" for i, name in zip(categories.ids, categories.names, strict=True)]
    return _shortened(named) or "none"


def _shortened(items: list[str]) -> str:
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return ", ".join(items[:10]) + more

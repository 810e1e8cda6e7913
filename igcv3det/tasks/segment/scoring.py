"""Scores a predictor on a split, image by image; memory does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from igcv3det.io.images import ImageReadError
from igcv3det.tasks.segment.evaluation import Confusion, SegmentationScores
from igcv3det.tasks.segment.masks import ClassLabels, Mask, MaskError
from igcv3det.tasks.segment.predictor import SegmentationPredictor
from igcv3det.tasks.segment.scan import read_pair
from igcv3det.tasks.segment.sources import MaskedImage


class SplitScores(NamedTuple):
    """The scores of a split.

    Attributes:
        scores: of the images that could be used.
        failures: a sentence for each image that could not, naming the file.
    """

    scores: SegmentationScores
    failures: list[str]


class _Prepared(NamedTuple):
    inputs: Tensor
    truth: Mask


def score_split(
    predictor: SegmentationPredictor,
    samples: Sequence[MaskedImage],
    classes: ClassLabels | None = None,
    *,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> SplitScores:
    """Segments the images of a split and compares with their masks, each at its own size.

    Args:
        predictor: what is scored.
        samples: images and masks.
        classes: which labels of the masks are classes; None takes the predictor's.
        batch_size: images in one pass of the network.
        workers: threads that read ahead.
        progress: called with the number of images done, after each batch.
    """
    known = predictor.classes if classes is None else classes
    confusion = Confusion(len(known.labels))
    failures: list[str] = []
    scored = done = 0

    def prepare(sample: MaskedImage) -> _Prepared:
        image, labels = read_pair(sample)
        return _Prepared(predictor.preprocess(image), known.to_classes(labels, sample.mask))

    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = _ahead(pool, prepare, samples, 2 * batch_size)
        while futures := list(islice(waiting, batch_size)):
            batch = [own for future in futures if (own := _result(future, failures)) is not None]
            sizes = [(own.truth.shape[0], own.truth.shape[1]) for own in batch]
            masks = predictor.segment([own.inputs for own in batch], sizes) if batch else []
            for own, mask in zip(batch, masks, strict=True):
                confusion.add(torch.from_numpy(mask), torch.from_numpy(own.truth))
            scored, done = scored + len(batch), done + len(futures)
            if progress is not None:
                progress(done)
    ignored = [row for row, label in enumerate(known.labels) if label in known.ignored]
    scores = SegmentationScores(confusion.matrix, known.names, scored, ignored)
    return SplitScores(scores, failures)


def _ahead(
    pool: ThreadPoolExecutor,
    prepare: Callable[[MaskedImage], _Prepared],
    samples: Sequence[MaskedImage],
    number: int,
) -> Iterator[Future[_Prepared]]:
    """The prepared samples in order, with so many begun before they are asked for."""
    begun: deque[Future[_Prepared]] = deque()
    for sample in samples:
        begun.append(pool.submit(prepare, sample))
        if len(begun) > number:
            yield begun.popleft()
    yield from begun


def _result(future: Future[_Prepared], failures: list[str]) -> _Prepared | None:
    try:
        return future.result()
    except (ImageReadError, MaskError) as error:
        failures.append(str(error))
        return None

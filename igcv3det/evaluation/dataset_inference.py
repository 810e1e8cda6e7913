"""Detection in all images of a data set.

Images are read and preprocessed in threads while the network computes the batch before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from torch import Tensor

from igcv3det.datasets.image_files import ImageFolder
from igcv3det.datasets.issues import NO_IMAGE
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.evaluation import CocoEvaluator
from igcv3det.io.images import Image, ImageReadError, read_image
from igcv3det.predictor import Network, Predictor
from igcv3det.runtime import ExportedDetector
from igcv3det.structures import Categories, Detections

SCORE_THRESHOLD = 0.01  # weaker detections hardly move the AP but would fill a results file
DETECTIONS_PER_IMAGE = 100  # COCO counts no more
Prepared = tuple[Tensor, tuple[int, int]]


class BatchDetector(Protocol):
    """Detects objects in preprocessed images; a `Predictor`, or another project's detector."""

    @property
    def categories(self) -> Categories:
        """Ids and names of the labels."""

    def preprocess(self, image: Image) -> Tensor:
        """See `Predictor.preprocess`."""

    def detect(
        self, inputs: Sequence[Tensor], original_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """See `Predictor.detect`."""


def score_images(
    predictor: BatchDetector,
    evaluator: CocoEvaluator,
    folder: str | Path | ImageFolder,
    image_ids: Sequence[int],
    *,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Adds the predictor's detections in these images to the evaluator.

    An image that is missing or cannot be read is left out with its objects, whatever the format:
    some formats do not say its size, without which its boxes are unknown.

    Args:
        predictor: with the thresholds wanted.
        evaluator: of the annotation file that the ids are from.
        folder: where the file names of the annotation file start from.
        image_ids: which images.
        batch_size: images in one pass of the network.
        workers: threads that read.
        progress: called with the number of images done, after each batch.

    Returns:
        One sentence for each image that is missing or could not be read, naming the file; those
        that the reader of the data set left out come first.
    """
    images = folder if isinstance(folder, ImageFolder) else ImageFolder(folder)
    issues = evaluator.ground_truth.issues
    failures = [str(issue) for issue in issues if issue.kind in NO_IMAGE]
    done = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for ids, futures in _read_ahead(predictor, evaluator, images, image_ids, batch_size, pool):
            found = _detect(predictor, ids, futures, failures)
            evaluator.update(list(found), list(found.values()))
            done += len(ids)
            if progress:
                progress(done)
    return failures


def average_precision(
    network: Network | ExportedDetector,
    annotations: Path | AnnotationRecord,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> tuple[float, list[str]]:
    """AP of a detector on a data set, in 0..1.

    Args:
        network: what `Predictor` takes, on the CPU.
        annotations: a COCO annotation file, or its record.
        folder: where its file names start from.
        progress: called with the number of images done, after each batch.

    Returns:
        AP, and one sentence for each unreadable image.

    Raises:
        FileNotFoundError, ValueError: from `CocoEvaluator`, among them that there are no objects in
            the images that can be read; ValueError also if there are no such images.
    """
    predictor = Predictor(
        network, score_threshold=SCORE_THRESHOLD, detections_per_image=DETECTIONS_PER_IMAGE
    )
    evaluator = CocoEvaluator(annotations, predictor.categories)
    evaluator.require_objects()
    failures = score_images(predictor, evaluator, folder, evaluator.image_ids, progress=progress)
    require_images(evaluator, failures, folder)
    evaluator.require_objects(evaluator.added_ids)
    return evaluator.compute()["AP"], failures


def require_images(evaluator: CocoEvaluator, failures: Sequence[str], folder: str | Path) -> None:
    """Refuses an evaluation without a single image.

    Args:
        evaluator: to which `score_images` added the images.
        failures: of `score_images`.
        folder: where the images were looked for.

    Raises:
        ValueError: none could be read; names the first.
    """
    if failures and not evaluator.image_count:
        raise ValueError(
            f"{folder}: none of the {len(failures)} images could be read, so there are no figures; "
            f"the first: {failures[0]}"
        )


def _detect(
    predictor: BatchDetector,
    image_ids: Sequence[int],
    futures: Sequence[Future[Prepared]],
    failures: list[str],
) -> dict[int, Detections]:
    """Detections of a batch by image; one that cannot be read is added to failures instead."""
    inputs, sizes, read = [], [], []
    for image_id, future in zip(image_ids, futures, strict=True):
        try:
            network_input, size = future.result()
        except ImageReadError as error:
            failures.append(str(error))
        else:
            inputs.append(network_input)
            sizes.append(size)
            read.append(image_id)
    return dict(zip(read, predictor.detect(inputs, sizes), strict=True)) if read else {}


def _read_ahead(
    predictor: BatchDetector,
    evaluator: CocoEvaluator,
    folder: ImageFolder,
    image_ids: Sequence[int],
    batch_size: int,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[Sequence[int], list[Future[Prepared]]]]:
    """Yields batches of image ids and their inputs; the batch after it is being read."""

    def prepare(image_id: int) -> Prepared:
        entry = evaluator.image(image_id)
        file = folder.folder / folder.find(entry.file_name)
        image = read_image(file, entry.size, is_upright=entry.is_upright)
        return predictor.preprocess(image), image.shape[:2]

    waiting: list[tuple[Sequence[int], list[Future[Prepared]]]] = []
    for start in range(0, len(image_ids), batch_size):
        ids = image_ids[start : start + batch_size]
        waiting.append((ids, [pool.submit(prepare, image_id) for image_id in ids]))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting

"""The check of the images themselves, for which every file has to be opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from igcv3det.datasets.issues import DatasetIssue, IssueKind
from igcv3det.datasets.store import AnnotationStore
from igcv3det.io.images import ImageReadError, ImageSizeError, read_image


def unreadable_images(store: AnnotationStore, images: str | Path, file: str) -> list[DatasetIssue]:
    """Images that cannot be read, or have another size than the annotations say.

    Args:
        store: whose images.
        images: folder that file names start from.
        file: the annotation file, to name in the faults.

    Returns:
        A fault for each, in the order of the store.
    """

    def check(index: int) -> DatasetIssue | None:
        entry = store.image(index)
        try:
            read_image(Path(images) / entry.file_name, size=entry.size)
        except ImageReadError as error:
            kind: IssueKind = (
                "size mismatch" if isinstance(error, ImageSizeError) else "unreadable file"
            )
            return DatasetIssue(kind, file, entry.image_id, None, str(error))
        return None

    # decoding is native code that lets other threads run
    with ThreadPoolExecutor() as pool:
        return [fault for fault in pool.map(check, range(len(store))) if fault is not None]

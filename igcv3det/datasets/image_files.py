"""The files of a data set's images: where they are, and whether they can be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import PIL.Image

from igcv3det.datasets.issues import DatasetIssue, IssueKind
from igcv3det.datasets.listings import FolderListing, is_file
from igcv3det.datasets.store import AnnotationStore
from igcv3det.io.images import Image, ImageReadError, ImageSizeError, read_image

_ORIENTATION_TAG = 0x0112
_MIRRORED_OR_UPSIDE_DOWN, _ON_ITS_SIDE = (2, 3, 4), (5, 6, 7, 8)


class OutsideFolderError(ImageReadError):
    """A ``file_name`` that is absolute or leads out of the folder of the images."""


class ImageFolder:
    """Finds images by the ``file_name`` of annotation files.

    A name is found as by `FolderListing`; else backslashes count as slashes. Files are not opened.

    Args:
        folder: where names start from.
        allow_outside: names may be absolute, or lead out of the folder.
    """

    def __init__(self, folder: str | Path, allow_outside: bool = False) -> None:
        self.folder = Path(folder)
        self.allow_outside = allow_outside
        self._listing = FolderListing(folder)

    def find(self, file_name: str) -> str:
        """The path of an existing file, relative to the folder unless it is outside.

        Raises:
            OutsideFolderError: the name leads out of the folder, which is not allowed.
            ImageReadError: there is no such file; names the path.
        """
        if leads_outside(file_name):
            if not self.allow_outside:
                raise OutsideFolderError(
                    f"{file_name!r} is absolute or leads out of {self.folder}; allow this with "
                    "--allow-outside (training: data.allow_outside)"
                )
            if is_file(self.folder / file_name):
                return file_name
        else:
            for name in dict.fromkeys((file_name, file_name.replace("\\", "/"))):
                found = self._listing.find(name)
                if found is not None:
                    return found
        raise ImageReadError(
            f"{self.folder / file_name}: no such file{self._hint(file_name)}; put it back or "
            "remove its entry"
        )

    def _hint(self, file_name: str) -> str:
        path = PurePosixPath(file_name.replace("\\", "/"))
        below = str(path.parent) if path.parent.parts else ""
        wanted = path.name.casefold()
        for name in self._listing.names(below):
            if name.casefold() == wanted:
                return f"; there is {name!r}, and letter case counts"
        return ""


def leads_outside(file_name: str) -> bool:
    """Whether a name is absolute, on any system, or has more ``..`` than folders before them."""
    name = file_name.replace("\\", "/")
    if name.startswith("/") or (":" in name and PureWindowsPath(name).drive):
        return True
    depth = 0
    for part in name.split("/") if ".." in name else ():
        depth += (part not in ("", ".", "..")) - (part == "..")
        if depth < 0:
            return True
    return False


def check_images(
    store: AnnotationStore,
    images: str | Path,
    file: str,
    progress: Callable[[int], None] | None = None,
    look: Callable[[int, Image], None] | None = None,
) -> Iterator[DatasetIssue]:
    """Opens every image.

    Args:
        store: whose images.
        images: folder that file names start from.
        file: the annotation file, to name in the issues.
        progress: called with the number of images opened, after each.
        look: called with index and pixels of each image that can be read, in several threads.

    Yields:
        An issue for each image that cannot be read, has another size than the annotations say, or
        an EXIF orientation that leaves open which frame the boxes are in; in the store's order.
    """

    def check(index: int) -> DatasetIssue | None:
        entry = store.images[index]
        path = Path(images) / entry.file_name
        kind: IssueKind = "unreadable file"
        try:
            image = read_image(path, size=entry.size, is_upright=entry.is_upright)
            if look is not None:
                look(index, image)
            size = store.size(index)
            detail = None if entry.is_upright else _ambiguous_orientation(path, size)
            kind = "ambiguous orientation"
        except ImageReadError as error:
            kind = "size mismatch" if isinstance(error, ImageSizeError) else kind
            detail = str(error)
        return DatasetIssue(kind, file, entry.image_id, None, detail) if detail else None

    # decoding is native code that lets other threads run
    with ThreadPoolExecutor() as pool:
        for done, issue in enumerate(pool.map(check, range(len(store))), start=1):
            if progress is not None:
                progress(done)
            if issue is not None:
                yield issue


def _ambiguous_orientation(path: Path, size: tuple[int, int]) -> str | None:
    """What to tell about an orientation that the annotated size does not decide."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, or of damaged EXIF
            with PIL.Image.open(path) as image:
                orientation = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None  # a format that Pillow does not know
    height, width = size
    same_size = _MIRRORED_OR_UPSIDE_DOWN + (_ON_ITS_SIDE if height == width else ())
    if orientation not in same_size:
        return None
    return (
        f"{path}: EXIF orientation {orientation} keeps the size {width} x {height}; boxes are "
        "taken in the stored frame, as COCO's tools do, not in that of a viewer"
    )

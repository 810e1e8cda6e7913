"""Where images are by their file_name, and what opening them tells."""

import unicodedata

import numpy as np
import pytest
from PIL import Image
from synthetic import EXIF_ORIENTATION, write_coco

from igcv3det.datasets.checks import check_record, load_annotations
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.image_files import (
    ImageFolder,
    OutsideFolderError,
    check_images,
    leads_outside,
)
from igcv3det.io.images import ImageReadError, read_image
from igcv3det.tasks.detect.dataset import CocoDetection

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "caf\u00e9.jpg") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "sub/b.jpg", f"sub/{DECOMPOSED}", COMPOSED, "odd\\c.jpg", "..d.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside.jpg").touch()
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub/../a.jpg", "a.jpg"),
        ("sub/b.jpg", "sub/b.jpg"),
        ("sub\\b.jpg", "sub/b.jpg"),
        (".\\sub\\b.jpg", "sub/b.jpg"),
        ("odd\\c.jpg", "odd\\c.jpg"),  # a backslash in the name itself
        ("..d.jpg", "..d.jpg"),
        (COMPOSED, COMPOSED),
        (DECOMPOSED, COMPOSED),
        (f"sub/{COMPOSED}", f"sub/{DECOMPOSED}"),
    ],
)
def test_names_find_their_files(folder, name, found):
    assert ImageFolder(folder).find(name) == found
    assert (folder / found).is_file()


@pytest.mark.parametrize("name", ["b.jpg", "sub/a.jpg", "a.jpg/b", "x" * 400, "a\0.jpg", "."])
def test_names_without_a_file_are_refused(folder, name):
    with pytest.raises(ImageReadError, match="no such file"):
        ImageFolder(folder).find(name)


def test_another_letter_case_is_a_hint(folder):
    with pytest.raises(ImageReadError, match=r"A\.JPG: no such file; there is 'a\.jpg'"):
        ImageFolder(folder).find("A.JPG")
    assert ImageFolder(folder).find("a.JPG") == "a.jpg"  # an ending's case does not count


@pytest.mark.parametrize(
    "name",
    [
        "../outside.jpg",
        "sub/../../outside.jpg",
        "/etc/passwd",
        "C:\\data\\a.jpg",
        "..\\outside.jpg",
    ],
)
def test_names_that_lead_outside_are_refused(folder, name):
    assert leads_outside(name)
    with pytest.raises(OutsideFolderError, match="--allow-outside"):
        ImageFolder(folder).find(name)


def test_names_may_lead_outside_if_allowed(folder):
    allowing = ImageFolder(folder, allow_outside=True)
    for name in ("../outside.jpg", str(folder.parent / "outside.jpg")):
        assert (folder / allowing.find(name)).samefile(folder.parent / "outside.jpg")
    with pytest.raises(ImageReadError, match="no such file"):
        allowing.find("../gone.jpg")


def _square_photo(path, orientation, size):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "size", "is_open"),
    [
        (1, (64, 96), False),
        (3, (64, 96), True),
        (6, (96, 64), False),  # the annotated size decides
        (6, (64, 64), True),
    ],
)
def test_an_orientation_that_the_size_does_not_decide(tmp_path, orientation, size, is_open):
    paths = write_coco(tmp_path)
    height, width = (64, 96) if size != (64, 64) else size
    _square_photo(paths.images / "photo.jpg", orientation, size)
    entry = {"id": 1, "file_name": "photo.jpg", "width": width, "height": height}
    paths.content["images"].append(entry)
    paths.rewrite()
    store, issues = load_annotations(paths.annotations, paths.images)
    issues += check_images(store, paths.images, "a.json")
    assert [issue.kind for issue in issues] == ["ambiguous orientation"] * is_open
    if is_open:
        assert f"EXIF orientation {orientation} keeps the size" in issues[0].detail


@pytest.mark.parametrize("orientation", range(1, 9))
def test_yolo_boxes_are_in_the_frame_of_a_viewer(tmp_path, orientation):
    # red where the viewer shows the upper left quarter
    shown = np.zeros((64, 64, 3), np.uint8)
    shown[:32, :32, 0] = 255
    turned = Image.fromarray(shown)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's Transpose
    if orientation != 1:
        turned = turned.transpose(Image.Transpose(inverse[orientation]))
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turned.save(tmp_path / "images" / "a.png", exif=exif)
    (tmp_path / "labels" / "a.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("red\n")
    record, folder = Dataset(tmp_path).read("all")
    store, issues = check_record(record, folder)
    issues += check_images(store, folder, "labels")
    assert not issues
    (entry,) = store.images
    image = read_image(folder / entry.file_name, entry.size, is_upright=entry.is_upright)
    np.testing.assert_array_equal(image, shown)
    image, _ = CocoDetection(store, folder, lambda example, _: example)[0, 0]
    np.testing.assert_array_equal(image, shown)

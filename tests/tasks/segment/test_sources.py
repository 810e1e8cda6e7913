"""Data sets of masks: layouts, splits, and what is wrong with them in one line."""

import logging

import numpy as np
import PIL.Image
import pytest
from mask_folders import VOID, write_masks, write_voc

from igcv3det.tasks.segment.masks import MaskError
from igcv3det.tasks.segment.scan import check_labels, class_labels, read_pair, scan_split
from igcv3det.tasks.segment.sources import MaskSource, validation_split


@pytest.fixture
def folder(tmp_path):
    return write_masks(tmp_path / "set", {"train": 3, "valid": 2})


def repaint(path, change):
    mask = np.array(PIL.Image.open(path))
    change(mask)
    PIL.Image.fromarray(mask).save(path)


def test_folders_beside_folders(folder):
    source = MaskSource(folder)
    assert source.splits == ["train", "valid"]
    assert validation_split(source) == "val"  # another name for valid
    image, mask, table = source.read("val")[1]
    assert table is None
    assert (image, mask) == (folder / "valid" / "1.png", folder / "valid_labels" / "1.png")
    pixels, labels = read_pair(source.read("train")[0])
    assert pixels.shape[:2] == labels.shape == (24, 32)


def test_folders_below_with_masks_in_folders_of_the_same_names(tmp_path):
    root = tmp_path / "set"
    for city in "ab":
        write_masks(root / city, {"train": 1})
        for part in ("train", "train_labels"):
            (root / part / city).parent.mkdir(exist_ok=True)
            (root / city / part).rename(root / part / city)
    samples = MaskSource(root).read("train")
    assert [sample.mask.relative_to(root).as_posix() for sample in samples] == [
        "train_labels/a/0.png",
        "train_labels/b/0.png",
    ]


def test_pascal_voc(tmp_path):
    source = MaskSource(write_voc(tmp_path))
    assert source.splits == ["train", "val"]
    samples = source.read("train")
    assert [sample.image.name for sample in samples] == ["a.jpg", "b.jpg"]
    scan = scan_split(samples)
    assert class_labels(scan, (), None).labels == (0, 1, 2)  # 255 is no class
    assert scan.counts[:, 255].tolist() == [32, 32]


def test_classes_by_names_by_labels_and_by_what_is_ignored(folder):
    scan = scan_split(MaskSource(folder).read("train"))
    found = class_labels(scan, (VOID,), None)
    assert found.names == ("class 0", "class 1", "class 2")
    assert scan.pixels(found) == tuple(scan.counts.sum(0)[:3])
    (folder / "classes.txt").write_text("void\nbox\nground\n")
    found = class_labels(scan, (0, VOID), MaskSource(folder).table)
    assert found == ((1, 2), (0, VOID), ("box", "ground"))
    own = folder / "names.txt"
    own.write_text("a\nb\nc\nd\n\n")
    assert MaskSource(folder, own).table.names == ["a", "b", "c", "d"]


def test_a_gap_in_the_labels_needs_names(folder):
    scan = scan_split(MaskSource(folder).read("train"))
    with pytest.raises(MaskError, match=r"0\.png: label 9, but no training mask has label 3: .*"):
        class_labels(scan, (), None)


def test_masks_of_0_and_255_have_one_class(folder):
    for path in (folder / "train_labels").iterdir():
        repaint(path, lambda mask: np.copyto(mask, np.uint8(255) * (mask == 1)))
    with pytest.raises(ValueError, match=r"needs 2 to 254 classes, the masks have 1: 0 \(255 and"):
        class_labels(scan_split(MaskSource(folder).read("train")), (), None)


def test_labels_outside_the_classes(folder):
    source = MaskSource(folder)
    classes = class_labels(scan_split(source.read("train")), (VOID,), None)
    repaint(folder / "valid_labels" / "1.png", lambda mask: mask.__setitem__((5, 6), 77))
    with pytest.raises(MaskError, match=r"valid_labels/1\.png: label 77 at row 5, column 6"):
        check_labels(scan_split(source.read("val")), classes)


def test_a_mask_that_is_all_ignored_is_named(folder, caplog):
    repaint(folder / "train_labels" / "2.png", lambda mask: mask.fill(VOID))
    scan = scan_split(MaskSource(folder).read("train"))
    with caplog.at_level(logging.WARNING):
        check_labels(scan, class_labels(scan, (VOID,), None))
    (message,) = caplog.messages
    assert message.endswith("2.png: no pixel of a class: all are ignored (label 9)")


def test_another_size_than_the_image(folder):
    path = folder / "train_labels" / "1.png"
    PIL.Image.fromarray(np.zeros((24, 30), np.uint8)).save(path)
    samples = MaskSource(folder).read("train")
    for call in (lambda: scan_split(samples), lambda: read_pair(samples[1])):
        with pytest.raises(MaskError, match=r"1\.png: 30 x 24 pixels, but its image .* 32 x 24"):
            call()


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (
            lambda root: (root / "train_labels/0.png").unlink(),
            r"train/0\.png: has no mask: .*0\.png",
        ),
        (
            lambda root: (root / "train_labels/0.png").rename(root / "train_labels/0.jpg"),
            r"train_labels/0\.jpg: a mask compressed with loss",
        ),
        (
            lambda root: [p.unlink() for p in (root / "train").iterdir()],
            "split train has no images",
        ),
        (
            lambda root: (root / "train").rename(root / "old"),
            "has no split 'train'; its splits: val",
        ),
    ],
    ids=["no mask", "lossy mask", "no image", "no split"],
)
def test_splits_that_cannot_be_used(folder, breaks, message):
    breaks(folder)
    with pytest.raises(ValueError, match=message):
        MaskSource(folder).read("train")


def test_other_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        MaskSource(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"expected SPLIT/ beside SPLIT_labels/, or Pascal VOC's"):
        MaskSource(tmp_path)
    with pytest.raises(ValueError, match="neither a split val nor test"):
        validation_split(MaskSource(write_masks(tmp_path / "set", {"train": 1})))
    voc = write_voc(tmp_path / "voc")
    (voc / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"train\.txt: line 2: no image 'b'"):
        MaskSource(voc).read("train")


def test_masks_of_colours(folder):
    """The same labels by a table in the folder, and by one that is given."""
    expected = scan_split(MaskSource(folder).read("train"))
    colours = np.array([[0, 0, 0], [64, 128, 64], [192, 0, 128], [1, 2, 3]], np.uint8)
    for path in (folder / "train_labels").iterdir():
        mask = np.array(PIL.Image.open(path))
        PIL.Image.fromarray(colours[np.where(mask == VOID, 3, mask)]).save(path)
    lines = [f"{r} {g} {b}\t{name}" for (r, g, b), name in zip(colours, "abcd", strict=True)]
    with pytest.raises(MaskError, match=r"0\.png: an RGB mask \(its first pixel is 1 2 3\): name"):
        scan_split(MaskSource(folder).read("train"))
    given = folder / "own.txt"
    given.write_text("\n".join(lines))
    (folder / "label_colors.txt").write_text("\n".join(lines))
    for source in (MaskSource(folder), MaskSource(folder, given)):
        scan = scan_split(source.read("train"))
        assert scan.counts[:, :3].tolist() == expected.counts[:, :3].tolist()
        assert scan.counts[:, 3].tolist() == expected.counts[:, VOID].tolist()
        assert class_labels(scan, (3,), source.table).names == ("a", "b", "c")

"""Faults of data sets in every layout: named by file and line, counted, and nothing else is lost.

`test_formats.py` has the faults of single lines of each format.
"""

import json
import re
import shutil

import PIL.Image
import pytest
from coco_files import save_tiny_detector
from layouts import LAYOUTS, NAMES, write_layout

from igcv3det.cli import check_data, convert_data
from igcv3det.cli import eval as evaluate
from igcv3det.datasets.checks import check_record, load_annotations
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.issues import AnnotationError
from igcv3det.io.images import read_image
from igcv3det.structures import Categories
from igcv3det.tasks.segment.sources import MaskSource

LABELS = {
    "coco": "annotations/instances_train2017.json",
    "roboflow": "train/_annotations.coco.json",
    "yolo": "labels/train/a.txt",
    "voc": "Annotations/a.xml",
    "labelme": "train/a.json",
    "cvat": "annotations.xml",
    "csv": "train.csv",
}
"""The file that describes image a.png, by layout."""
FILE_AN_IMAGE = ("yolo", "voc", "labelme")
TEXTS = (".json", ".xml", ".csv", ".txt")


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def folder(tmp_path, layout):
    return write_layout(tmp_path, layout).folder


@pytest.fixture
def label(folder, layout):
    return folder / LABELS[layout]


def image(folder):
    (path,) = folder.rglob("a.png")
    return path


def read(folder):
    """Images, boxes, and the issues of the training split."""
    checked = check_record(*Dataset(folder).read("train"))
    return len(checked.store), len(checked.store.boxes), checked.issues


def test_an_image_that_is_missing(folder, layout):
    link = image(folder)
    link.unlink()
    for _ in range(2):
        images, boxes, (issue,) = read(folder)
        assert (images, boxes, issue.kind) == (3, 3, "missing file")
        assert "a." in str(issue)
        assert re.search("put it back|left out", issue.detail)
        if not link.is_symlink():
            link.symlink_to(folder / "gone.png")  # a link to nothing is no image


def test_evaluation_without_a_missing_image(tmp_path, capsys):
    """Left out with its objects and named, exit status 1: the same figures in every format."""
    tiny = save_tiny_detector(tmp_path / "tiny.safetensors", Categories.of_names(NAMES))
    figures = {}
    for layout in LAYOUTS:
        folder, output = write_layout(tmp_path, layout).folder, tmp_path / f"{layout}.json"
        image(folder).unlink()
        call = ["--checkpoint", tiny, "--data", folder, "--split", "train", "--output", output]
        assert evaluate.main([str(word) for word in call]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(r"eval: .*\ba\.(png|txt|xml|json)\b.*(put it back|left out)", line)
        figures[layout] = json.loads(output.read_text())
    first = figures["coco"]
    assert (first["images"], first["partial"], first["unreadable_images"]) == (3, True, 1)
    assert all(found == first for found in figures.values())


def test_a_data_set_without_a_single_image(folder, layout, capsys):
    for path in folder.parent.rglob("*.png"):
        path.unlink()
    assert check_data.main(["--data", str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("a.png|no images in|6 missing file", line)


def test_labels_with_endings_in_upper_case(folder):
    for path in [path for path in folder.rglob("*") if path.suffix in (*TEXTS, ".yaml")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    assert Dataset(folder).splits == ["train", "val"]
    assert read(folder) == (4, 5, [])


def test_images_with_endings_in_upper_case(folder):
    """Named otherwise by the annotations, as on systems where letter case does not count."""
    for path in list(folder.rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    assert read(folder) == (4, 5, [])
    record, images = Dataset(folder).read("all")
    assert len(load_annotations(record, images).store) == 6


@pytest.mark.parametrize("data", [b"", b"no image"], ids=["empty", "text"])
def test_an_image_that_is_none(folder, data, capsys):
    image(folder).write_bytes(data)
    assert check_data.main(["--data", str(folder)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "unreadable file" in line
    assert str(image(folder)) in line


def test_a_label_file_that_is_empty(folder, label, layout):
    label.write_bytes(b"")
    if layout == "yolo":
        assert read(folder) == (4, 3, [])
    elif layout in FILE_AN_IMAGE:
        images, boxes, (issue,) = read(folder)
        assert (images, boxes, issue.file) == (3, 3, str(label))
        assert issue.detail == "the file is empty; the image is left out"
    else:
        with pytest.raises(AnnotationError, match=rf"{label.name}.* is empty"):
            Dataset(folder).read("train")


def test_a_label_file_in_another_encoding(folder, label, layout):
    text = label.read_text()
    label.write_bytes(text.encode("utf-16"))
    assert read(folder) == (4, 5, [])
    name = "0 0.5 0.5 0.5 kätzchen" if layout == "yolo" else text.replace("cat", "kätzchen")
    label.write_bytes(name.encode("latin-1"))
    message = r"line \d+: not text in utf-8.*; save it as UTF-8"
    if layout in FILE_AN_IMAGE:
        (issue,) = read(folder)[2]
        assert issue.file == str(label)
        assert re.search(message, issue.detail)
    else:
        with pytest.raises(AnnotationError, match=rf"{label.name}: {message}"):
            Dataset(folder).read("train")


def test_a_class_that_the_names_lack(folder, label, layout):
    text = label.read_text()
    if layout == "yolo":
        label.write_text("77" + text[1:])
    elif layout in ("coco", "roboflow"):
        label.write_text(text.replace('"category_id": 1', '"category_id": 77', 1))
    else:
        label.write_text(
            re.sub('(<name>|label="|"label": "|,)cat\\b(?!</name></label>)', r"\1cta", text)
        )
        (folder / "classes.txt").write_text("cat\ndog\nzebra\n")
    images, boxes, (issue,) = read(folder)
    assert (images, boxes, issue.kind, issue.file) == (4, 4, "unknown category", str(label))
    assert re.search("77|'cta' is not among the data set's names .cat, dog, zebra.", issue.detail)


def test_names_with_blanks_accents_and_upper_case(folder, label, layout):
    new = "Bild é 01"
    image(folder).rename(image(folder).with_name(f"{new}.PNG"))
    for file in [path for path in folder.rglob("*") if path.suffix in TEXTS]:
        stem = re.sub("^a$", new, file.read_text(), flags=re.MULTILINE)  # a list of VOC
        file.write_text(stem.replace("a.png", f"{new}.PNG"))
    if layout in FILE_AN_IMAGE:
        label.rename(label.with_stem(new))
    assert read(folder) == (4, 5, [])


def test_one_image_name_in_two_folders(folder, label, layout):
    other = image(folder).parent / "sub" / "a.png"
    other.parent.mkdir()
    shutil.copy(image(folder), other)
    if layout in FILE_AN_IMAGE:
        (label.parent / "sub").mkdir(exist_ok=True)
        shutil.copy(label, label.parent / "sub")
    text = label.read_text()
    if layout == "voc":
        (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\nd\nsub/a\n")
    elif layout == "csv":
        label.write_text(text + "sub/a.png,1,1,9,9,dog\nsub/a.png,2,2,9,9,cat\n")
    elif layout == "cvat":
        start = text.index('<image id="0"')
        own = text[start : text.index("</image>") + 8].replace("a.png", "sub/a.png")
        label.write_text(text.replace("</annotations>", f"{own}</annotations>"))
    elif layout in ("coco", "roboflow"):
        content = json.loads(text)
        content["images"].append(content["images"][0] | {"id": 99, "file_name": "sub/a.png"})
        copies = [dict(item) for item in content["annotations"] if item["image_id"] == 1]
        content["annotations"] += [c | {"id": 90 + n, "image_id": 99} for n, c in enumerate(copies)]
        label.write_text(json.dumps(content))
    assert read(folder) == (5, 7, [])


def test_links(folder, label, layout, tmp_path):
    """Links to files and to a folder, and one to a folder that it is in."""
    pixels, elsewhere = image(folder), tmp_path / "elsewhere"
    elsewhere.mkdir()
    label.rename(elsewhere / "label")
    label.symlink_to(elsewhere / "label")
    pixels.rename(elsewhere / "a.png")
    pixels.symlink_to(elsewhere / "a.png")
    (pixels.parent / "loop").symlink_to(pixels.parent)
    assert read(folder) == (4, 5, [])
    if layout == "yolo":
        (tmp_path / "labels").mkdir()
        label.rename(tmp_path / "labels" / "a.txt")
        pixels.unlink()
        (pixels.parent / "link").symlink_to(elsewhere)
        (label.parent / "link").symlink_to(tmp_path / "labels")
        assert read(folder) == (4, 5, [])


def test_exif_orientation(folder):
    path = image(folder)
    expected = read_image(path)
    stored = PIL.Image.fromarray(expected).transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned back
    stored.save(path, exif=exif)
    record, images = Dataset(folder).read("train")
    assert read(folder) == (4, 5, [])
    (entry,) = (entry for entry in record.images if entry.file_name == "a.png")
    assert entry.size == (32, 64)
    assert (read_image(images / "a.png", entry.size) == expected).all()


@pytest.mark.parametrize("layout", ["yolo", "voc", "labelme"], indirect=True)
def test_two_images_of_one_stem(folder, layout):
    """The label file's own name decides; in YOLO the labels are those of both."""
    png = image(folder)
    PIL.Image.open(png).convert("RGB").save(png.with_suffix(".jpg"))
    if layout == "voc":
        shutil.rmtree(folder / "ImageSets")
    record, _ = Dataset(folder).read("all" if layout == "voc" else "train")
    names = [entry.file_name for entry in record.images]
    assert "a.png" in names
    if layout == "yolo":
        assert (names.count("a.jpg"), len(record), record.issues) == (1, 7, ())
        return
    (issue,) = record.issues
    assert (issue.kind, issue.file) == ("unlabelled image", str(png.with_suffix(".jpg")))


@pytest.mark.parametrize("layout", ["coco", "roboflow", "csv"], indirect=True)
def test_a_split_without_its_annotations(folder, label, caplog):
    label.unlink()
    assert Dataset(folder).splits == ["val"]
    assert Dataset(folder).notice("train") is None
    if (folder / "images").exists():
        return  # all images are in one folder, whatever their split
    assert "4 images without annotations of a split train: not used" in caplog.text
    assert caplog.text.count("not used") == 1


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("coco", "annotations/instances_train2017.json", "annotations/instances_train.json"),
        ("roboflow", "train", "train2"),
        ("yolo", "images/train", "images/training"),
        ("voc", "ImageSets/Main/train.txt", "ImageSets/Main/train2.txt"),
        ("labelme", "train", "train2014"),
        ("cvat", "annotations.xml", "annotations2.xml"),
        ("csv", "train.csv", "train1.csv"),
    ],
    indirect=["layout"],
)
def test_two_places_for_one_split(folder, layout, first, second):
    copy = shutil.copytree if (folder / first).is_dir() else shutil.copy
    copy(folder / first, folder / second)
    if layout == "yolo":
        (folder / "data.yaml").unlink()
        (folder / "classes.txt").write_text("cat\ndog\nzebra\n")
    with pytest.raises(AnnotationError, match=r"several .*\(.*, .*\): name the one that is meant"):
        Dataset(folder)


@pytest.mark.parametrize("layout", ["cvat"], indirect=True)
def test_two_subsets_for_one_split(folder, label):
    label.write_text(label.read_text().replace('"train"', '"Train1"', 1))
    with pytest.raises(AnnotationError, match="line 9: subset 'train', after 'Train1'"):
        Dataset(folder)


def test_two_splits_of_masks_for_one(tmp_path):
    for name in ("train1", "train2"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}_labels").mkdir()
    with pytest.raises(ValueError, match="several splits for train: train1, train2: name one"):
        MaskSource(tmp_path).has_split("train")


@pytest.mark.parametrize("layout", ["csv"], indirect=True)
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_with_other_delimiters(folder, label, delimiter):
    label.write_text(label.read_text().replace(",", delimiter))
    assert read(folder) == (4, 5, [])


@pytest.mark.parametrize("layout", ["csv"], indirect=True)
def test_a_table_that_is_none(folder, label, capsys):
    label.write_text("a,b\n1,2\n")
    assert convert_data.main([str(folder), str(folder / "out.json")]) == 1
    assert "train.csv: line 1: must be a box or a header" in capsys.readouterr().err

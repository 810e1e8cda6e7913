"""The same data in every layout is the same record; what is wrong is named by file and line."""

import contextlib
import json
import random
import re
import shutil

import numpy as np
import pytest
from layouts import LAYOUTS, NAMES, write_layout

from igcv3det.datasets.checks import check_record, load_annotations
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.issues import AnnotationError

FORMAT = {"roboflow": "coco"}
LABEL_ENDINGS = {"voc": "xml", "labelme": "json"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_and_read(tmp_path, layout):
    folder, splits = write_layout(tmp_path, layout)
    dataset = Dataset(folder)
    assert dataset.format == FORMAT.get(layout, layout)
    assert dataset.splits == ["train", "val"]
    for split, images in splits.items():
        record, place = dataset.read(split)
        assert record.categories.names == NAMES
        assert record.categories.ids == (1, 2, 3)
        assert [entry.file_name for entry in record.images] == [one.path.name for one in images]
        assert [entry.size for entry in record.images] == [(i.height, i.width) for i in images]
        assert all((place / entry.file_name).is_file() for entry in record.images)
        boxes = [box for image in images for box in image.boxes]
        assert record.boxes.tolist() == [list(box[1:]) for box in boxes]
        assert [NAMES[label - 1] for label in record.labels] == [box.name for box in boxes]
        assert record.issues == ()
        assert not record.is_crowd.any()
    everything, root = dataset.read("all")
    assert len(everything.images) == 6
    assert len(everything) == 8
    assert len(set(everything.images.ids.tolist())) == 6
    assert check_record(everything, root).issues == []


@pytest.mark.parametrize("layout", ["yolo", "voc", "labelme"])
def test_progress_of_reading(tmp_path, layout):
    folder, _ = write_layout(tmp_path, layout)
    seen = []
    Dataset(folder, progress=lambda done, total: seen.append((done, total))).read("all")
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_named_formats_win(tmp_path, layout):
    folder, _ = write_layout(tmp_path, layout)
    name = FORMAT.get(layout, layout)
    assert Dataset(folder, name).read("val").record.categories.names == NAMES
    other = "voc" if name != "voc" else "csv"
    with pytest.raises(AnnotationError, match=f"has nothing of the format {other}"):
        Dataset(folder, other)


def test_an_archive_with_one_folder(tmp_path):
    write_layout(tmp_path / "unpacked", "yolo")
    (tmp_path / "unpacked" / "source").rename(tmp_path / "source")
    assert Dataset(tmp_path / "unpacked").splits == ["train", "val"]
    assert Dataset(tmp_path / "unpacked", "yolo").splits == ["train", "val"]


def test_two_formats_in_one_folder(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\na.png,1,1,2,2,cat\n")
    with pytest.raises(
        AnnotationError, match=r"YOLO \(data.yaml\) and CSV \(boxes.csv\).*--format"
    ):
        Dataset(folder)
    assert Dataset(folder, "csv").splits == ["all"]


def test_what_is_no_data_set(tmp_path):
    known = r"not recognised as a data set; recognised are COCO JSON \(annotations/instances_"
    with pytest.raises(AnnotationError, match=known) as error:
        Dataset(tmp_path)
    assert "--format" not in str(error.value)  # which asks the same readers
    with pytest.raises(AnnotationError, match=r"nothing of the format yolo, which is data\.yaml"):
        Dataset(tmp_path, "yolo")
    with pytest.raises(FileNotFoundError, match="gone: no such data set"):
        Dataset(tmp_path / "gone")


def test_without_a_validation_split_a_fixed_fifth_is_held_out(tmp_path):
    folder, _ = write_layout(tmp_path, "coco")
    (folder / "annotations" / "instances_val2017.json").unlink()
    dataset = Dataset(folder)
    train, val = (dataset.read(split).record for split in ("train", "val"))
    assert len(val.images) == 1
    assert {e.file_name for e in train.images} | {e.file_name for e in val.images} == {
        "a.png",
        "b.png",
        "c.png",
        "d.png",
    }
    again = Dataset(folder).read("val").record
    assert [e.file_name for e in again.images] == [e.file_name for e in val.images]
    with pytest.raises(AnnotationError, match="has no split 'test'; it has train"):
        dataset.read("test")
    assert dataset.notice("train") == dataset.notice("val") != dataset.notice("all")
    (folder / "two.csv").write_text("a.png,1,1,9,9,cat\nb.png,1,1,9,9,cat\n")
    for image in ("a.png", "b.png"):
        (folder / "train2017" / image).rename(folder / image)
    two = Dataset(folder / "two.csv")
    assert [len(two.read(split).record.images) for split in ("train", "val")] == [1, 1]
    (folder / "two.csv").write_text("a.png,1,1,9,9,cat\n")
    with pytest.raises(AnnotationError, match="1 images are too few"):
        Dataset(folder / "two.csv").read("val")


def issues(folder, split="train"):
    record, images = Dataset(folder).read(split)
    return check_record(record, images).issues


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("0,0.5,0.5,0.1,0.1", "bad annotation", "line 2: fields must be separated by blanks"),
        ("3 0.5 0.5 0.1 0.1", "unknown category", "line 2: class index 3; the names are for 0..2"),
        (
            "0 32 16 10 10",
            "bad annotation",
            "line 2: coordinates must be normalised to 0..1, got 32",
        ),
        ("0 0.5 0.5 0.1", "bad annotation", "line 2: 4 fields; a box has 5"),
        (
            "0 0.5 0.5 0.1 x",
            "bad annotation",
            "line 2: fields must be a whole number and coordinates",
        ),
        ("0 0.5 nan 0.1 0.1", "bad annotation", "line 2: coordinates must be normalised"),
        ("0 0.5 0.5 0 0", "no area", "line 2: bbox"),
        ("0 0.95 0.5 0.3 0.1", "clipped", "line 2: bbox"),
    ],
)
def test_bad_lines_of_yolo(tmp_path, line, kind, message):
    folder, _ = write_layout(tmp_path, "yolo")
    file = folder / "labels" / "train" / "b.txt"
    file.write_text(file.read_text() + line + "\n")
    (issue,) = issues(folder)
    assert (issue.kind, issue.file) == (kind, str(file))
    assert message in issue.detail


def test_files_that_yolo_lacks(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "labels" / "train" / "a.txt").unlink()
    (folder / "images" / "train" / "b.png").unlink()
    (folder / "images" / "train" / "d.png").write_bytes(b"no image")
    found = {(issue.kind, issue.file.rpartition("/")[2]) for issue in issues(folder)}
    assert found == {
        ("missing label file", "a.txt"),
        ("missing file", "b.txt"),
        ("unreadable file", "d.txt"),
    }
    for file in (folder / "labels" / "train").iterdir():
        file.unlink()
    with pytest.raises(AnnotationError, match=r"none of 3 images has a label file; .*labels/train"):
        Dataset(folder).read("train")


def test_polygons_of_yolo_become_their_extent(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "labels" / "val" / "f.txt").write_text("1 0.25 0.5 0.5 0.75 0.375 0.25\n")
    assert Dataset(folder).read("val").record.boxes[-1].tolist() == [32, 8, 32, 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\nnames: [cat]\nnc: 2\n", "nc is 2, but names has 1 names"),
        ("train: images/gone\nnames: [cat]\n", "train: .*images/gone: no such folder"),
        ("train: images/train\nnames: cat\n", "names must be a list"),
        ("names: [cat\n", "data.yaml: not readable as YAML"),
    ],
)
def test_bad_descriptions_of_yolo(tmp_path, text, message):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "data.yaml").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        Dataset(folder).read("train")


def test_a_split_of_yolo_without_its_folder_leaves_the_others(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    file = folder / "data.yaml"
    file.write_text(f"{file.read_text().rstrip()}\ntest: ../test/images\n")
    data = Dataset(folder)
    assert data.splits == ["train", "val", "test"]
    assert [len(data.read(split).record.images) for split in ("train", "val")] == [4, 2]
    message = r"data\.yaml: test: .*\.\./test/images: no such folder or list of images"
    for split in ("test", "all"):
        with pytest.raises(AnnotationError, match=message):
            data.read(split)


def test_places_of_yolo(tmp_path):
    """Roboflow's ../, lists of images, and no description at all."""
    folder, _ = write_layout(tmp_path, "yolo")
    expected = Dataset(folder).read("train").record
    names = "names: [cat, dog, zebra]\n"
    (folder / "list.txt").write_text("".join(f"images/train/{n}.png\n" for n in "abcd"))
    for train in ("../images/train", "list.txt", "[images/train]", "./images/train"):
        (folder / "data.yaml").write_text(f"path: ../datasets/none\ntrain: {train}\n{names}")
        record = Dataset(folder).read("all").record
        assert record.boxes.tolist() == expected.boxes.tolist()
        assert record.issues == ()
    (folder / "data.yaml").unlink()
    with pytest.raises(AnnotationError, match=r"labels without names: add a data\.yaml"):
        Dataset(folder)
    (folder / "classes.txt").write_text("cat\ndog\nzebra\n")
    assert Dataset(folder).read("train").record.categories == expected.categories


def test_difficult_objects_are_crowd_regions(tmp_path):
    folder, _ = write_layout(tmp_path, "voc")
    file = folder / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    record, images = Dataset(folder).read("train")
    assert record.is_crowd.tolist() == [False, False, True, False, False]
    store = load_annotations(record, images).store
    assert store.is_crowd.tolist() == record.is_crowd.tolist()


@pytest.mark.parametrize(
    ("text", "is_crowd"),
    [("", False), ("Unspecified", False), ("false", False), ("true", True), ("True", True)],
)
def test_other_words_for_difficult(tmp_path, text, is_crowd):
    folder, _ = write_layout(tmp_path, "voc")
    file = folder / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<difficult>0", f"<difficult>{text}"))
    record = Dataset(folder).read("train").record
    assert record.is_crowd.tolist() == [False, False, is_crowd, False, False]
    file.write_text(file.read_text().replace(f"<difficult>{text}", "<difficult>2"))
    (issue,) = Dataset(folder).read("train").record.issues
    assert "difficult is '2'" in issue.detail


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda t: t[:200], "unreadable label file", "line 12: the file is cut off"),
        (lambda t: t.replace("<size>", "<size"), "unreadable label file", "line 4: not XML"),
        (
            lambda t: t.replace("<xmax>32<", "<xmax>a<"),
            "bad annotation",
            "line 8: bndbox must have",
        ),
        (
            lambda t: t.replace("<name>dog</name>", ""),
            "bad annotation",
            "line 8: an object without",
        ),
        (
            lambda t: t.replace("<ymin>0</ymin>", ""),
            "bad annotation",
            "line 8: an object without ymin",
        ),
        (
            lambda t: '<!DOCTYPE a [<!ENTITY b "c">]>' + t,
            "unreadable label file",
            "line 1: declares an entity",
        ),
    ],
    ids=["cut", "tag", "number", "name", "corner", "entity"],
)
def test_bad_files_of_voc(tmp_path, change, kind, message):
    folder, _ = write_layout(tmp_path, "voc")
    file = folder / "Annotations" / "b.xml"
    file.write_text(change(file.read_text()))
    (issue,) = issues(folder)
    assert (issue.kind, issue.file) == (kind, str(file))
    assert message in issue.detail


def test_places_of_voc(tmp_path):
    """Without lists; sizes and names that are missing; files that are not there."""
    folder, _ = write_layout(tmp_path, "voc")
    lists = folder / "ImageSets" / "Main"
    with (lists / "train.txt").open("a") as file:
        file.write("gone\n")
    (issue,) = issues(folder)
    assert issue.detail.startswith("line 5: ")
    for file in lists.iterdir():
        file.unlink()
    for file in (folder / "Annotations").iterdir():
        text = file.read_text().replace(f"{file.stem}.png", "renamed.png")
        file.write_text(text.replace("width>", "depth>"))
    dataset = Dataset(folder)
    assert dataset.splits == ["all"]
    assert [entry.size for entry in dataset.read("all").record.images][:2] == [(32, 64), (64, 32)]
    (folder / "Annotations" / "a.xml").unlink()
    (folder / "JPEGImages" / "b.png").unlink()
    assert [issue.kind for issue in issues(folder, "all")] == ["missing file", "unlabelled image"]


def test_folders_of_voc_in_lower_case(tmp_path):
    folder, _ = write_layout(tmp_path, "voc")
    expected = Dataset(folder).read("all").record
    shutil.rmtree(folder / "ImageSets")
    (folder / "Annotations").rename(folder / "annotations")
    (folder / "JPEGImages").rename(folder / "images")
    data = Dataset(folder)
    record, place = data.read("all")
    assert (data.format, place) == ("voc", folder / "images")
    assert record.boxes.tolist() == expected.boxes.tolist()
    assert (len(record.images), record.issues) == (6, ())


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ({"shape_type": "polygon", "points": [[1, 2], [5, 9], [3, 4]]}, [1, 2, 4, 7]),
        ({"shape_type": "circle", "points": [[10, 10], [13, 14]]}, [5, 5, 10, 10]),
        ({"shape_type": "rectangle", "points": [[9, 8], [1, 2]]}, [1, 2, 8, 6]),
        ({"shape_type": "point", "points": [[9, 8]]}, "shapes[0]: a point has no extent"),
        ({"shape_type": "rectangle", "points": [[9, "8"]]}, "shapes[0]: points must be pairs"),
        ({"shape_type": "polygon", "points": [[9, 8]]}, "shapes[0]: a polygon needs two points"),
        ({"shape_type": "rectangle", "points": [], "label": ""}, "shapes[0]: label must be a name"),
    ],
)
def test_shapes_of_labelme(tmp_path, shape, box):
    folder, _ = write_layout(tmp_path, "labelme")
    file = folder / "val" / "f.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"shapes": [{"label": "cat"} | shape]}))
    record = Dataset(folder).read("val").record
    if isinstance(box, str):
        (issue,) = record.issues
        assert box in issue.detail
        assert issue.file == str(file)
    else:
        assert record.boxes[-1].tolist() == box


@pytest.mark.parametrize("labels", ["annotations", "labels"])
@pytest.mark.parametrize("named", ["../images/{}.png", "..\\images\\{}.png", "images/{}.png"])
def test_labelme_files_in_a_folder_beside_that_of_the_images(tmp_path, labels, named):
    source, splits = write_layout(tmp_path, "labelme")
    folder = tmp_path / "mine"
    for name in (labels, "images"):
        (folder / name).mkdir(parents=True)
    for stem in "abcd":
        (source / "train" / f"{stem}.png").rename(folder / "images" / f"{stem}.png")
        content = json.loads((source / "train" / f"{stem}.json").read_text())
        content["imagePath"] = named.format(stem)
        (folder / labels / f"{stem}.json").write_text(json.dumps(content))
    record, place = Dataset(folder).read("all")
    assert record.issues == ()
    assert [entry.file_name for entry in record.images] == [f"images/{stem}.png" for stem in "abcd"]
    assert all((place / entry.file_name).is_file() for entry in record.images)
    boxes = [list(box[1:]) for image in splits["train"] for box in image.boxes]
    assert record.boxes.tolist() == boxes


@pytest.mark.parametrize("layout", ["voc", "labelme"])
def test_names_written_otherwise_than_those_of_the_files(tmp_path, layout):
    folder, _ = write_layout(tmp_path, layout)
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    (image,), (label,) = folder.rglob("f.png"), folder.rglob(f"f.{LABEL_ENDINGS[layout]}")
    text = label.read_text()
    image.rename(image.with_name(f"{composed}.png"))
    for stem in (composed, decomposed, "other"):
        label = label.rename(label.with_stem(stem))
        for named in (f"{composed}.PNG", f"{decomposed}.png", f"{decomposed}.Png"):
            label.write_text(text.replace("f.png", named), encoding="utf-8")
            listed = folder / "ImageSets" / "Main" / "val.txt"
            if listed.exists():
                listed.write_text(f"e\n{stem}\n", encoding="utf-8")
            record = Dataset(folder).read("val").record
            assert {entry.file_name for entry in record.images} == {"e.png", f"{composed}.png"}
            assert (record.issues, len(record)) == ((), 3)


def test_two_images_whose_names_differ_in_writing(tmp_path):
    folder, _ = write_layout(tmp_path, "labelme")
    file = folder / "val" / "e.json"
    shutil.copy(folder / "val" / "f.png", folder / "val" / "e.PNG")
    for name in ("e.PNG", "e.png"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"imagePath": name}))
        record = Dataset(folder).read("val").record
        assert [entry.file_name for entry in record.images] == [name, "f.png"]
        (issue,) = record.issues
        assert issue.kind == "unlabelled image"


def test_a_name_relative_to_the_label_file_comes_first(tmp_path):
    folder, _ = write_layout(tmp_path, "labelme")
    inner = folder / "val" / "inner"
    inner.mkdir()
    shutil.copy(folder / "val" / "e.png", inner / "x.png")
    shutil.copy(folder / "val" / "f.png", folder / "val" / "x.png")
    content = json.loads((folder / "val" / "e.json").read_text()) | {"imagePath": "x.png"}
    (inner / "other.json").write_text(json.dumps(content))
    record = Dataset(folder).read("val").record
    assert [entry.file_name for entry in record.images] == ["e.png", "f.png", "inner/x.png"]
    (issue,) = record.issues
    assert (issue.kind, issue.file) == ("unlabelled image", str(folder / "val" / "x.png"))


def test_files_that_labelme_lacks(tmp_path):
    folder, _ = write_layout(tmp_path, "labelme")
    (folder / "train" / "a.json").write_text('{"shapes": [')
    (folder / "train" / "b.png").unlink()
    (folder / "train" / "c.json").unlink()
    kinds = [issue.kind for issue in issues(folder)]
    assert kinds == ["unreadable label file", "missing file", "unlabelled image"]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<box label="cat" xtl="0" ytl="0" xbr="4" ybr="2" rotation="90"/>', [1, -1, 2, 4]),
        ('<polygon label="cat" points="1,2;5,9;3,4"/>', [1, 2, 4, 7]),
        ('<ellipse label="cat" cx="9" cy="8" rx="4" ry="2" rotation="90"/>', [7, 4, 4, 8]),
        ('<ellipse label="cat" cx="9" cy="8" rx="4" ry="2"/>', [5, 6, 8, 4]),
        ('<mask label="cat" rle="0, 6" left="1" top="2" width="3" height="2"/>', [1, 2, 3, 2]),
        ('<points label="cat" points="1,2"/>', "line 23: a points has no extent"),
        ('<box label="cat" xtl="0"/>', "line 23: a box with unusable coordinates"),
    ],
)
def test_shapes_of_cvat(tmp_path, shape, box):
    folder, _ = write_layout(tmp_path, "cvat")
    file = folder / "annotations.xml"
    lines = file.read_text().splitlines()
    (row,) = (row for row, line in enumerate(lines) if 'name="f.png"' in line)
    lines[row + 1] = shape
    file.write_text("\n".join(lines))
    record = Dataset(folder).read("val").record
    if isinstance(box, str):
        (issue,) = record.issues
        assert box in issue.detail
    else:
        np.testing.assert_allclose(record.boxes[-1], box)


def test_videos_of_cvat_are_refused(tmp_path):
    file = tmp_path / "annotations.xml"
    file.write_text('<annotations>\n<track id="0" label="cat"></track></annotations>')
    with pytest.raises(AnnotationError, match=r"line 2: a track of a video; export as"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,1,2,x,4,cat", "line 9: xmin, ymin, xmax, ymax must be numbers"),
        ("a.png,1,2,3,4,", "line 9: no label"),
        (",1,2,3,4,cat", "line 9: no image is named"),
        ("gone.png,1,2,3,4,cat", "line 9: .*gone.png: no such file; its boxes are left out"),
    ],
)
def test_bad_lines_of_csv(tmp_path, line, message):
    folder, _ = write_layout(tmp_path, "csv")
    file = folder / "train.csv"
    file.write_text(file.read_text().rstrip() + f"\n\n{line}\n")
    (issue,) = issues(folder)
    assert issue.file == str(file)
    assert re.match(message, issue.detail)


def test_columns_of_csv(tmp_path):
    folder, _ = write_layout(tmp_path, "csv")
    expected = Dataset(folder).read("train").record
    rows = (folder / "train.csv").read_text().splitlines()[1:]
    (folder / "train.csv").write_text("\n".join(rows))
    assert Dataset(folder).read("train").record.boxes.tolist() == expected.boxes.tolist()
    turned = ["class,ymax,xmax,ymin,xmin,filename"]
    turned += [",".join(reversed(row.split(","))) for row in rows]
    (folder / "train.csv").write_text("\n".join(turned))
    assert Dataset(folder).read("train").record.boxes.tolist() == expected.boxes.tolist()
    (folder / "train.csv").write_text("image,xmin,ymin,xmax\na.png,1,2,3\n")
    with pytest.raises(AnnotationError, match=r"train.csv: line 1: no column ymax, label"):
        Dataset(folder).read("train")
    (folder / "train.csv").write_text("\n".join(turned))
    (folder / "more.csv").write_text("\n".join(turned))
    (folder / "train.csv").rename(folder / "one.csv")
    (folder / "val.csv").unlink()
    with pytest.raises(AnnotationError, match=r"several tables \(more.csv, one.csv\)"):
        Dataset(folder)


@pytest.mark.parametrize(
    "first", ["c.png,,,,,", "c.png;;;;;", "c.png", "\n \nc.png", ",,,,,\nc.png", "c.png,,"]
)
def test_a_table_without_header_that_begins_without_a_box(tmp_path, first):
    folder, _ = write_layout(tmp_path, "csv")
    rows = ["a.png,2,3,22,24,cat", "b.png,0,0,32,64,dog"]
    rows = [row.replace(",", ";") if ";" in first else row for row in rows]
    (folder / "train.csv").write_text("\n".join([first, *rows]))
    record = Dataset(folder, "csv").read("train").record
    assert [entry.file_name for entry in record.images] == ["c.png", "a.png", "b.png"]
    assert record.boxes.tolist() == [[2, 3, 20, 21], [0, 0, 32, 64]]
    (folder / "one.csv").write_text("\n".join([first, *rows]))
    assert Dataset(folder / "one.csv").format == "csv"


@pytest.mark.parametrize("text", ["a.png", "a.png\nb.png\n", "a.png\nimage,xmin\n", "a,b\n", "\n"])
def test_what_is_no_table(tmp_path, text):
    (tmp_path / "notes.csv").write_text(text)
    with pytest.raises(AnnotationError, match="not recognised as a data set"):
        Dataset(tmp_path)


def test_many_images_without_objects_before_the_first_box(tmp_path):
    folder, _ = write_layout(tmp_path, "csv")
    (folder / "train.csv").write_text("c.png\n" * 5000 + "a.png,2,3,22,24,cat\n")
    record = Dataset(folder / "train.csv").read("all").record
    assert (len(record.images), len(record)) == (2, 1)


def test_the_line_of_a_header_after_blank_ones(tmp_path):
    folder, _ = write_layout(tmp_path, "csv")
    file = folder / "train.csv"
    expected = Dataset(folder).read("train").record
    file.write_text("\n\n" + file.read_text())
    assert Dataset(folder).read("train").record.boxes.tolist() == expected.boxes.tolist()
    file.write_text("\n\nimage,xmin,ymin,xmax\na.png,1,2,3\n")
    with pytest.raises(AnnotationError, match=r"train.csv: line 3: no column ymax, label"):
        Dataset(folder).read("train")
    file.write_text("\nfirst second\n")
    with pytest.raises(AnnotationError, match=r"train.csv: line 2: must be a box .*'first second'"):
        Dataset(folder).read("train")


PIECES = [b"-1", b"nan", b"1e999", b"9" * 40, b"\xff", b"\x00", b"<", b"\n", b"null", b",", b"../"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_are_read_or_refused(tmp_path, layout):
    folder, _ = write_layout(tmp_path, layout)
    files = sorted(path for path in folder.rglob("*") if path.suffix not in ("", ".png"))
    draw = random.Random(0)
    for _ in range(60):
        file = draw.choice(files)
        sound = data = file.read_bytes()
        for _ in range(draw.randint(1, 4)):
            place = draw.randint(0, len(data))
            piece = draw.choice(PIECES) if draw.random() < 0.8 else data[: draw.randint(0, 9)]
            data = data[:place] + piece + data[place + draw.randint(0, 6) :]
        file.write_bytes(data if draw.random() < 0.8 else data[: len(data) // 2])
        with contextlib.suppress(AnnotationError, FileNotFoundError):
            dataset = Dataset(folder)
            for split in (*dataset.splits, "all"):
                check_record(*dataset.read(split))
        file.write_bytes(sound)


def test_several_coco_files(tmp_path):
    folder, _ = write_layout(tmp_path, "coco")
    place = folder / "annotations"
    (place / "instances_other_train2017.json").write_bytes(
        (place / "instances_train2017.json").read_bytes()
    )
    with pytest.raises(AnnotationError, match="several COCO files for train"):
        Dataset(folder)
    assert Dataset(place / "instances_val2017.json").read("all").images == folder / "val2017"


@pytest.mark.parametrize(
    "other", [((1, "dog"), (2, "cat"), (3, "zebra")), ((1, "cat"), (2, "dog"))]
)
def test_all_of_splits_with_other_categories_is_refused(tmp_path, other):
    folder, _ = write_layout(tmp_path, "coco")
    file = folder / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": number, "name": name} for number, name in other]
    kept = {number for number, _ in other}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in kept]
    file.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"train2017\.json and .*val2017\.json: categories"):
        Dataset(folder).read("all")
    assert len(Dataset(folder).read("val").record.images) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["a.txt", "a.yaml", "a.yml"])
def test_a_file_of_another_kind_beside_the_data_is_ignored(tmp_path, layout, name):
    folder, _ = write_layout(tmp_path, layout)
    (folder / name).write_bytes("Données réelles\n".encode("latin-1"))
    assert Dataset(folder).splits == ["train", "val"]
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    assert Dataset(folder).splits == ["train", "val"]


def test_images_of_no_subset_beside_splits_are_counted(tmp_path, caplog):
    folder, _ = write_layout(tmp_path, "cvat")
    file = folder / "annotations.xml"
    file.write_text(file.read_text().replace('subset="train"', 'subset="later"', 2))
    data = Dataset(folder)
    assert [len(data.read(split).record.images) for split in ("train", "val", "all")] == [2, 2, 6]
    assert "2 images have a subset that is none of train, val, test, or none" in caplog.text


def test_shapes_of_key_points_are_counted(tmp_path):
    folder, _ = write_layout(tmp_path, "cvat")
    file = folder / "annotations.xml"
    shape = '<skeleton label="cat"><points label="eye" points="1,1"/></skeleton></image>'
    file.write_text(file.read_text().replace("</image>", shape, 1))
    (issue,) = Dataset(folder).read("train").record.issues
    assert "a skeleton has no extent" in issue.detail


def test_trainval_without_the_validation_images_is_the_training_split(tmp_path):
    folder, _ = write_layout(tmp_path, "voc")
    lists = folder / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text(
        (lists / "train.txt").read_text() + (lists / "val.txt").read_text()
    )
    (lists / "train.txt").unlink()
    names = [[e.file_name for e in Dataset(folder).read(s).record.images] for s in ("train", "val")]
    assert names == [["a.png", "b.png", "c.png", "d.png"], ["e.png", "f.png"]]


def test_labels_of_the_current_folder(tmp_path, monkeypatch):
    folder, _ = write_layout(tmp_path, "yolo")
    flat = tmp_path / "flat"
    flat.mkdir()
    for stem in "ab":
        (folder / "images" / "train" / f"{stem}.png").rename(flat / f"{stem}.png")
        (folder / "labels" / "train" / f"{stem}.txt").rename(flat / f"{stem}.txt")
    (flat / "classes.txt").write_text("\n".join(NAMES))
    monkeypatch.chdir(flat)
    record, place = Dataset(".").read("all")
    assert (len(record), record.issues) == (3, ())
    assert (place / record.images[0].file_name).is_file()
    (flat / "data.yaml").write_text(f"train: train.txt\nnames: [{', '.join(NAMES)}]\n")
    (flat / "train.txt").write_text(f"a.png\n{flat / 'b.png'}\n")
    assert len(Dataset(".").read("all").record) == 3


def write_beside(place, source, splits, stems):
    """Images of a data set in YOLO's layout and their labels, in one folder."""
    place.mkdir(parents=True)
    for split, images in splits.items():
        for stem in (image.path.stem for image in images if image.path.stem in stems):
            shutil.copy(source / "images" / split / f"{stem}.png", place)
            shutil.copy(source / "labels" / split / f"{stem}.txt", place)
    return place


@pytest.mark.parametrize("inner", ["", "nested"])
@pytest.mark.parametrize("folders", [{"train": "abcdef"}, {"train": "abcd", "valid": "ef"}])
def test_the_yolo_export_of_cvat(tmp_path, folders, inner):
    source, splits = write_layout(tmp_path, "yolo")
    folder = tmp_path / "export"
    for name, stems in folders.items():
        write_beside(folder / f"obj_{name}_data" / inner, source, splits, stems)
        listed = "".join(f"data/obj_{name}_data/{stem}.png\n" for stem in stems)
        (folder / f"{name}.txt").write_text(listed)
    (folder / "obj.names").write_text("".join(f"{name}\n" for name in NAMES))
    (folder / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n"
    )
    data = Dataset(folder)
    assert (data.format, data.splits) == ("yolo", ["train", "val"][: len(folders)])
    record, place = data.read("all")
    assert record.categories.names == NAMES
    assert (len(record.images), len(record), record.issues) == (6, 8, ())
    assert all((place / entry.file_name).is_file() for entry in record.images)


def test_labels_beside_images_whose_first_text_files_have_no_boxes(tmp_path):
    source, splits = write_layout(tmp_path, "yolo")
    flat = write_beside(tmp_path / "flat", source, splits, "abcdef")
    (flat / "a.txt").write_text("")
    (flat / "b.txt").write_text("\n\n1 0.5 0.5 1 1\n")
    (flat / "README.dataset.txt").write_text("Blood cells, of 2026\n")
    (flat / "all.txt").write_text("a.png\nb.png\n")
    (flat / "gone.txt").write_text("")
    (flat / "classes.txt").write_text("\n".join(NAMES))
    data = Dataset(flat)
    assert (data.format, data.splits) == ("yolo", ["all"])
    record = data.read("all").record
    assert (len(record.images), len(record)) == (6, 6)
    (issue,) = record.issues
    assert (issue.kind, issue.file) == ("missing file", str(flat / "gone.txt"))


@pytest.mark.parametrize("points", [2, 3])
def test_boxes_of_pose_labels(tmp_path, points):
    folder, _ = write_layout(tmp_path, "yolo")
    expected = Dataset(folder).read("train").record
    for file in (folder / "labels" / "train").iterdir():
        lines = [f"{line} {'0.9 0.8 2 ' * points}" for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines))
    description = folder / "data.yaml"
    text = description.read_text()
    description.write_text(f"{text}\nkpt_shape: [{points}, 3]\n")
    found = Dataset(folder).read("train").record
    assert found.issues == ()
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    description.write_text(f"{text}\nkpt_shape: [{points + 2}, 3]\n")
    issues = Dataset(folder).read("train").record.issues
    assert f"one with the key points of kpt_shape {5 + 3 * (points + 2)}" in issues[0].detail
    description.write_text(f"{text}\nkpt_shape: [17]\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml: kpt_shape must be two whole numbers"):
        Dataset(folder)


def test_a_description_in_utf_16(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    file = folder / "data.yaml"
    file.write_bytes(file.read_text().replace("zebra", "zèbre").encode("utf-16"))
    assert Dataset(folder).read("train").record.categories.names == ("cat", "dog", "zèbre")


def test_class_names_are_the_texts_of_the_file(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "data.yaml").write_text("train: images/train\nnames: [no, 1.10, 2026-01-01]\n")
    assert Dataset(folder).read("train").record.categories.names == ("no", "1.10", "2026-01-01")
    merged = "train: images/train\nbase: &base {0x0: no, 01: b}\nnames: {<<: *base, 2: c}\n"
    (folder / "data.yaml").write_text(merged)
    assert Dataset(folder).read("train").record.categories.names == ("no", "b", "c")


def test_a_labelme_file_whose_image_comes_first(tmp_path):
    folder, _ = write_layout(tmp_path, "labelme")
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text()) | {"imageData": "A" * 200_000}
        file.write_text(json.dumps(content, sort_keys=True))
    assert Dataset(folder).format == "labelme"

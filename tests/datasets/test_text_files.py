"""Text in any encoding, and what is said of files that are no JSON."""

import json

import pytest

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.text_files import read_json, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_and_json_in_any_encoding(tmp_path, encoding):
    path = tmp_path / "names"
    path.write_bytes('{"é": "汉"}'.encode(encoding))
    assert read_text(path) == '{"é": "汉"}'
    assert read_json(path) == {"é": "汉"}


def test_json_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('{"a": 1}'.encode("utf-16-le"))
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"images": [\n{"id": 1', r"not JSON at line 2, column \d+ .*is the file cut off"),
        ('{"images": [1,,2]}', r"not JSON at line 1, column 15 \(character 14 of 18\)"),
        ("[" * 100_000, "not usable JSON: nested too deeply"),
        ("9" * 5000, "not usable JSON: Exceeds the limit"),
    ],
    ids=["empty", "cut", "comma", "deep", "long number"],
)
def test_what_is_no_json(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=rf"a\.json: {message}") as error:
        read_json(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("name", "text", "format_name"),
    [
        ("data.yaml", "train: images/train\nnames:\n  0: cat\n", "YOLO"),
        ("data.json", "names: [cat]\nnc: 1\n", "YOLO"),
        ("labels.txt", "0 0.5 0.5 0.1 0.2\n", "YOLO"),
        ("labels", "0 0.5 0.5 0.1 0.2\n1 0.5 0.5 1 1\n", "YOLO"),
        ("0001.xml", "<annotation><folder>VOC</folder></annotation>", "Pascal VOC"),
        ("annotations.json", '<?xml version="1.0"?>\n<annotations/>', "Pascal VOC or CVAT"),
        ("boxes.csv", "image,xmin,ymin,xmax,ymax,label\n", "CSV"),
    ],
)
def test_other_formats_are_named(tmp_path, name, text, format_name):
    (tmp_path / name).write_text(text)
    with pytest.raises(
        AnnotationError, match=f"expects COCO JSON; this looks like .*{format_name}"
    ):
        read_json(tmp_path / name)


def test_binary_folder_and_missing(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(AnnotationError, match=r"a\.json: line 1: not text in utf-8 .* byte 12"):
        read_json(tmp_path / "a.json")
    with pytest.raises(AnnotationError, match="is a folder"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such"):
        read_json(tmp_path / "none.json")


def test_lone_surrogates_stay(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"file_name": "\udcff.jpg"}))
    assert read_json(path) == {"file_name": "\udcff.jpg"}

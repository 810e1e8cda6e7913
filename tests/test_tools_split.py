import json

import pytest
from synthetic import write_coco

from tools.split_data import main


@pytest.fixture
def paths(tmp_path):
    return write_coco(tmp_path)


def split_of(folder):
    return [json.loads((folder / f"instances_{s}.json").read_text()) for s in ("train", "val")]


def test_every_image_goes_to_one_of_both_with_its_annotations(paths, tmp_path):
    folder = tmp_path / "out"
    assert main([str(paths.annotations), "--output", str(folder), "--share", "0.34"]) == 0
    train, val = split_of(folder)
    assert (len(train["images"]), len(val["images"])) == (4, 2)
    for key in ("images", "annotations"):
        ids = [item["id"] for item in (*train[key], *val[key])]
        assert sorted(ids) == sorted(item["id"] for item in paths.content[key])
    for content in (train, val):
        assert content["categories"] == paths.content["categories"]
        assert {a["image_id"] for a in content["annotations"]} <= {
            i["id"] for i in content["images"]
        }


def test_the_seed_decides(paths, tmp_path):
    drawn = []
    for number, seed in enumerate("0012"):
        folder = tmp_path / str(number)
        main([str(paths.annotations), "--output", str(folder), "--share", "0.5", "--seed", seed])
        drawn.append([image["id"] for image in split_of(folder)[1]["images"]])
    assert drawn[0] == drawn[1]
    assert len({tuple(ids) for ids in drawn}) > 1


@pytest.fixture
def folders(tmp_path):
    """Six images in two folders, all with polygons and a field of the user's own."""
    images = [
        {"id": 3 * cam + i, "file_name": f"cam{cam}/000{i}.jpg", "width": 64, "height": 48}
        for cam in (1, 2)
        for i in range(3)
    ]
    annotations = [
        {
            "id": number,
            "image_id": image["id"],
            "category_id": 1,
            "bbox": [1, 2, 20.5, 1e-07],
            "segmentation": [[1, 2, 21.25, 2, 21, 22]],
            "attributes": {"occluded": True, "image_id": 4},
            "keypoints": [1, 2, 2],
        }
        for number, image in enumerate(images)
    ]
    content = {"info": {"year": 2026}, "images": images, "annotations": annotations}
    path = tmp_path / "all.json"
    path.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "a"}]}))
    return path


def split(path, names, *options, encoding="utf-8"):
    (path.parent / "val.txt").write_text(names, encoding=encoding)
    output = path.parent / "out"
    options = [*options, "--validation", str(path.parent / "val.txt"), "--output", str(output)]
    status = main([str(path), *options])
    return status or {image["file_name"] for image in split_of(output)[1]["images"]}


def test_every_field_is_kept(folders):
    split(folders, "cam1/0000.jpg")
    content = json.loads(folders.read_text())
    train, val = split_of(folders.parent / "out")
    assert val["annotations"] == content["annotations"][:1]
    assert train["annotations"] == content["annotations"][1:]
    assert train["info"] == val["info"] == content["info"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ("cam1/0000.jpg", {"cam1/0000.jpg"}),
        ("cam2/0000\ncam1/0001\n\n", {"cam2/0000.jpg", "cam1/0001.jpg"}),
        ("cam2\\0000.jpg\r\n", {"cam2/0000.jpg"}),
        ("./cam2/0002.jpg", {"cam2/0002.jpg"}),
        ("/data/images/cam2/0002.jpg", {"cam2/0002.jpg"}),
    ],
)
def test_names_decide_with_their_folders(folders, names, chosen):
    assert split(folders, names) == chosen


def test_a_file_of_powershell(folders):
    assert split(folders, "cam1/0000.jpg\r\ncam2/0001.jpg\r\n", encoding="utf-16") == {
        "cam1/0000.jpg",
        "cam2/0001.jpg",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0000.jpg", "0000.jpg is the name of several images: cam1/0000.jpg, cam2/0000.jpg"),
        ("0000", "0000 is the name of several images"),
        ("cam3/0000.jpg", "no such image in the annotations: cam3/0000.jpg"),
        ("unicorn", "no such image in the annotations: unicorn"),
    ],
)
def test_names_that_are_refused(folders, capsys, name, message):
    assert split(folders, name) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "val.txt: " + message in line
    assert not (folders.parent / "out").exists()


def test_names_of_one_folder(paths, tmp_path):
    (tmp_path / "all.json").write_bytes(paths.annotations.read_bytes())
    assert split(tmp_path / "all.json", "plain\ncrowd.png\n\n") == {"plain.png", "crowd.png"}


def test_another_data_set_is_not_overwritten(folders, capsys):
    split(folders, "cam1/0000.jpg")
    output = folders.parent / "out"
    before = [path.read_bytes() for path in sorted(output.iterdir())]
    assert split(folders, "cam1/0000.jpg") == {"cam1/0000.jpg"}  # the same again
    assert split(folders, "cam1/0001.jpg") == 1
    assert "holds another data set" in capsys.readouterr().err
    assert [path.read_bytes() for path in sorted(output.iterdir())] == before


def test_annotations_without_an_image_are_reported(folders, capsys):
    content = json.loads(folders.read_text())
    content["annotations"] += [{"image_id": 99}, None]
    folders.write_text(json.dumps(content))
    split(folders, "cam1/0000.jpg")
    assert "2 annotations of no image are in neither file" in capsys.readouterr().err


def test_what_is_nested_too_deeply_is_one_line(folders, capsys, monkeypatch):
    def fail(content):  # Python writes fewer levels than it reads
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(json, "dumps", fail)
    assert split(folders, "cam1/0000.jpg") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("all.json: nested too deeply to be written again")


def test_the_notice_of_issues_comes_after_the_files(tmp_path, capsys):
    (tmp_path / "a.xml").write_text("<annotation><filename>gone.png</filename></annotation>")
    assert main([str(tmp_path / "a.xml"), "--output", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("no image is left that can be used")


def test_what_cannot_be_split(paths, tmp_path, capsys):
    for share in ("0.01", "0.99"):
        assert main([str(paths.annotations), "--output", str(tmp_path), "--share", share]) == 1
        assert "leaves one of the two empty" in capsys.readouterr().err
    assert main(["none.json", "--output", str(tmp_path)]) == 1
    assert "none.json: no such" in capsys.readouterr().err
    paths.content["images"].append({"id": 1})
    assert main([str(paths.rewrite()), "--output", str(tmp_path)]) == 1
    assert "images[6]: needs a whole number as id and a file_name" in capsys.readouterr().err

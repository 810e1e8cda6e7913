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


def test_names_decide(paths, tmp_path):
    (tmp_path / "val.txt").write_text("plain\ncrowd.png\n\n")
    options = ["--validation", str(tmp_path / "val.txt"), "--output", str(tmp_path / "out")]
    assert main([str(paths.annotations), *options]) == 0
    names = {image["file_name"] for image in split_of(tmp_path / "out")[1]["images"]}
    assert names == {"plain.png", "crowd.png"}


def test_unknown_names_and_empty_halves(paths, tmp_path, capsys):
    (tmp_path / "val.txt").write_text("unicorn\n")
    options = ["--validation", str(tmp_path / "val.txt"), "--output", str(tmp_path / "out")]
    assert main([str(paths.annotations), *options]) == 1
    assert "val.txt: no such image in the annotations: unicorn" in capsys.readouterr().err
    assert main([str(paths.annotations), "--output", str(tmp_path), "--share", "0.01"]) == 1
    assert "leaves one of the two empty" in capsys.readouterr().err
    assert main(["none.json", "--output", str(tmp_path)]) == 1
    assert "none.json" in capsys.readouterr().err
